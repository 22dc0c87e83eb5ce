/** Rust has panicked: WebAssembly may be in any state, so that a process or thread that goes on needs a new one. */
export const isTrap = (error: unknown): error is Error =>
  error instanceof Error && error.name === 'RuntimeError';

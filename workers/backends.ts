/** The back ends of one worker process: made when a version first asks for one, and stopped together. */
import type { FunctionVersion } from '../shared/domain/function.ts';
import type { Backend as BackendName } from '../shared/domain/model.ts';
import type { Backend, BackendFactory, BackendOptions } from './backend.ts';

export type BackendFactories = { readonly process: BackendFactory } & Partial<
  Readonly<Record<BackendName, BackendFactory>>
>;

/** A back end, or why this worker has none for the version. */
export type FoundBackend = { readonly backend: Backend } | { readonly refusal: string };

export class Backends {
  readonly #factories: BackendFactories;
  readonly #options: BackendOptions;
  readonly #made = new Map<BackendName, Promise<FoundBackend>>();

  constructor(factories: BackendFactories, options: BackendOptions) {
    this.#factories = factories;
    this.#options = options;
  }

  of({ spec }: FunctionVersion): Promise<FoundBackend> {
    const name = spec.backend ?? 'process';
    let found = this.#made.get(name);
    if (!found) {
      found = this.#make(name);
      this.#made.set(name, found);
    }
    return found;
  }

  async #make(name: BackendName): Promise<FoundBackend> {
    const factory = this.#factories[name];
    if (!factory)
      return {
        refusal: `backend="${name}": this worker does not have it; its back ends are ${this.#names()}`,
      };
    try {
      return { backend: await factory(this.#options) };
    } catch (error) {
      // What is missing (a program, a cluster's address) is looked for again with the next version.
      this.#made.delete(name);
      return { refusal: `backend="${name}": ${error instanceof Error ? error.message : String(error)}` };
    }
  }

  #names(): string {
    return Object.keys(this.#factories).join(', ');
  }

  async stop(): Promise<void> {
    const all = await Promise.all(this.#made.values());
    await Promise.all(all.map((found) => ('backend' in found ? found.backend.stop() : undefined)));
  }
}

/** Of a version that this worker refuses. */
export const NO_BACKEND: Backend = {
  ignored: () => [],
  launch: () => Promise.reject(new Error('this worker refuses the version')),
  stop: () => Promise.resolve(),
};

/** How a command ends: exit codes, and errors in one sentence with the way on. */
import { CATALOGUE } from '../shared/errors/catalogue.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
/** 128 + SIGINT, as shells have it. */
export const EXIT_INTERRUPTED = 130;

/** The command line is wrong; `message` says which part and what to write instead. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** The command cannot go on; `message` says why and how to go on. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT_FAILED) {
    super(message);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}

const sentence = (text: string): string => (/[.!?)]$/.test(text) ? text : `${text}.`);

const FILE_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  EACCES: 'may not be read or written by this user',
  EISDIR: 'is a directory',
  ENOTDIR: 'lies below something that is not a directory',
  ENOSPC: 'lies on a full disk; free space, then run the command again',
};

const fileSentence = (error: NodeJS.ErrnoException): string | null => {
  const problem = FILE_PROBLEMS[error.code ?? ''];
  return problem && error.path !== undefined ? `${error.path} ${problem}.` : null;
};

/** One line for people, without a stack. */
export const explain = (error: unknown): string => {
  if (error instanceof SluiceError) {
    const fix = typeof error.extra.fix === 'string' ? error.extra.fix : CATALOGUE[error.code].fix;
    return `${sentence(error.message)} ${fix}`;
  }
  if (!(error instanceof Error)) return sentence(String(error));
  const waited = (error as { callId?: unknown }).callId;
  if (error.name === 'TimeoutError' && typeof waited === 'string')
    return `Call ${waited} is not finished yet and goes on; wait for it with \`sluice calls wait ${waited}\`.`;
  const known = ['UsageError', 'CommandError', 'ConnectionError', 'TimeoutError'].includes(error.name);
  if (known) return sentence(error.message);
  const file = fileSentence(error);
  if (file !== null) return file;
  return sentence(error.message);
};

export const exitCodeOf = (error: unknown): number => {
  if (error instanceof CommandError) return error.exitCode;
  return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
};

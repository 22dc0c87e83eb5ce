/** How a command ends: exit codes, and errors in one sentence with the way on. */
import { CATALOGUE, type ErrorCode } from '../shared/errors/catalogue.ts';
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
  EFBIG: 'is larger than this user may write; raise the limit (ulimit -f), then run the command again',
};

const fileSentence = (error: NodeJS.ErrnoException): string | null => {
  const problem = FILE_PROBLEMS[error.code ?? ''];
  // An error of an open file has no path.
  return problem ? `${error.path ?? 'A file that the command has open'} ${problem}.` : null;
};

const { function_not_found, call_not_found, model_not_found, scaling_group_not_found, engine_not_found } =
  CATALOGUE;

/**
 * The way on, for the codes whose details say what is wrong and no more. The catalogue's words are for whoever speaks
 * HTTP; those of other codes would repeat what the detail says, or point to a request that the command made.
 */
const WAY_ON: Partial<Readonly<Record<ErrorCode, string>>> = {
  unauthorized: 'Set SLUICE_API_KEY or give --api-key; `sluice keys create NAME` makes a key.',
  forbidden: 'Give another key with SLUICE_API_KEY or --api-key.',
  not_found: 'Check the name, and the server that --url or SLUICE_URL names.',
  function_not_found: function_not_found.fix,
  call_not_found: call_not_found.fix,
  model_not_found: model_not_found.fix,
  scaling_group_not_found: scaling_group_not_found.fix,
  engine_not_found: engine_not_found.fix,
  result_not_ready: 'Wait for it with `sluice calls wait ID`.',
  model_deployed: CATALOGUE.model_deployed.fix,
  engine_in_use: CATALOGUE.engine_in_use.fix,
  drift_not_found: 'Set one with `sluice groups drift NAME --reference-from TIME --reference-until TIME`.',
  no_earlier_version: 'Name a version with `sluice groups update NAME --model-version VERSION`.',
  changed_meanwhile: 'Run the command again.',
  call_gone: CATALOGUE.call_gone.fix,
  payload_too_large: CATALOGUE.payload_too_large.fix,
  queue_full: 'Run the command again when there is room.',
  shutting_down: 'Run the command again in a moment.',
  store_unavailable: 'Run the command again once it answers.',
  data_lost: CATALOGUE.data_lost.fix,
  request_timeout: 'Give more time, or submit a call with --no-wait.',
  disk_full: CATALOGUE.disk_full.fix,
  handler_unavailable: CATALOGUE.handler_unavailable.fix,
};

/** A fix of the error's own goes before the table; a problem document repeats the catalogue's otherwise. */
const wayOn = ({ code, extra }: SluiceError): string | undefined => {
  const isOwn = typeof extra.fix === 'string' && extra.fix !== CATALOGUE[code].fix;
  return isOwn ? (extra.fix as string) : WAY_ON[code];
};

/** A traceback has lines of its own, and ends without a full stop. */
const withWayOn = (text: string, fix: string | undefined): string => {
  if (text.includes('\n')) return fix === undefined ? text.trimEnd() : `${text.trimEnd()}\n${fix}`;
  return fix === undefined ? sentence(text) : `${sentence(text)} ${fix}`;
};

/** For people, without a stack: one line, where what a handler raised has not more. */
export const explain = (error: unknown): string => {
  if (error instanceof SluiceError) return withWayOn(error.message, wayOn(error));
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

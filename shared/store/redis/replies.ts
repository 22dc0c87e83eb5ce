/** What a Redis error means in the words of the catalogue. */
import { isErrorCode } from '../../errors/catalogue.ts';
import { BugError, SluiceError } from '../../errors/sluice-error.ts';

/** Errors of a server that may answer the same command later. */
const UNAVAILABLE =
  /^(LOADING|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOREPLICAS|MISCONF|UNBLOCKED|NOAUTH|WRONGPASS|ERR max number of clients)\b/;
const REFUSED = /^NOPERM\b|ACL failure in script|The user executing the script can't/;
const CONNECTION =
  /Connection is closed|Stream isn't writeable|max retries per request|Too many Cluster redirections|Cluster is ended|isn't connected|Command aborted|Command timed out|Failed to refresh slots cache|None of startup nodes|Socket timeout|connect E|read E|write E|ETIMEDOUT|ECONN|EPIPE|ENOTFOUND/;

export const unavailable = (why: string): SluiceError => {
  // The library names an option of its own.
  const told = why.startsWith('Reached the max retries') ? 'the connection was lost' : why;
  return new SluiceError('store_unavailable', `Redis does not answer: ${told}.`, { retry_after_seconds: 1 });
};

export const dataLost = (why: string): SluiceError =>
  new SluiceError(
    'data_lost',
    `The store's data was lost or replaced: ${why}. Calls made before are gone; submit them again once the server has been started anew.`,
  );

/** One call of a store that serves on. Its idempotency key was lost with it. */
export class CallLostError extends SluiceError {
  constructor() {
    super(
      'data_lost',
      'The call was lost in a failover, or when Redis came back without its last writes; submit it again.',
    );
  }
}

/** For who still serves a store that a migration has taken away: its calls are not lost, and must not run twice. */
export const moved = (place: string, to: string): SluiceError =>
  new SluiceError(
    'store_unavailable',
    `What was in ${place} moves to ${to}, and calls keep their ids: ask the server of that one.`,
    { retry_after_seconds: 5 },
  );

const refused = (why: string): SluiceError =>
  new SluiceError('store_unavailable', `Redis refuses its user a command: ${why}.`, {
    retry_after_seconds: 5,
    fix: 'Let the user of --store do what docs/OPERATIONS.md lists.',
  });

/** Whether the server refused the script since it does not know it (yet). */
export const isNoScript = (error: Error): boolean => error.message.startsWith('NOSCRIPT');

/** Whether the command may have failed since its connection or its cluster node went away. */
export const isConnectionError = (error: Error): boolean => CONNECTION.test(error.message);

export const toSluiceError = (error: Error): Error => {
  const { message } = error;
  if (error instanceof SluiceError) return error;
  const told = /^(?:ERR )?SLUICE ([a-z_]+) ?([\s\S]*)$/.exec(message);
  if (told !== null) return fromScript(told[1]!, told[2]!);
  if (message.startsWith('OOM'))
    return new SluiceError(
      'memory_full',
      'The Redis server has reached its maxmemory; nothing is admitted until results expire or it is raised.',
      { retry_after_seconds: 5 },
    );
  if (REFUSED.test(message)) return refused(message);
  if (UNAVAILABLE.test(message) || isConnectionError(error)) return unavailable(message);
  return new BugError(`Redis answered ${JSON.stringify(message.slice(0, 500))}`);
};

/** Scripts add `; {json}` where the problem has members of its own. */
const fromScript = (code: string, rest: string): Error => {
  if (code === 'data_lost') return dataLost(rest);
  if (!isErrorCode(code)) return new BugError(`a script refused with ${code} ${rest}`);
  const split = /^([\s\S]*?)(?:; (\{[\s\S]*\}))?$/.exec(rest);
  const extra = split?.[2] === undefined ? {} : (JSON.parse(split[2]) as Record<string, unknown>);
  return new SluiceError(code, split?.[1] ?? rest, extra);
};

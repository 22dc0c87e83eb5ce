/** While a command waits: what its function waits for, on standard error. */
import type { FunctionJson, Sluice } from '../../sdk/index.ts';
import { pause } from '../../sdk/transport.ts';
import { groupNameOf } from '../../shared/domain/model.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { reasonLine } from '../print.ts';

/** Most calls are answered before the first look. */
const LOOK_MS = 2000;
/** One look at most; a server that answers does so in milliseconds. */
const LOOK_LONGEST_MS = 5000;
/** A state that comes and goes does not fill a terminal. */
const SAY_MS = 10_000;

/** `sluice groups show dbl` for model.dbl, which has the reasons by replica. */
const showCommand = (name: string): string => {
  const group = groupNameOf(name);
  return group === null ? `sluice functions show ${name}` : `sluice groups show ${group}`;
};

/** Why no row of this version runs, with the way to learn more; null where a replica is ready. */
export const waitingState = (fn: FunctionJson, version: string): string | null => {
  if (fn.paused) return `${fn.name} is paused (sluice resume ${fn.name})`;
  const told = fn.replicas.find((one) => one.version === version);
  if (told !== undefined && told.ready > 0) return null;
  const why = told?.reason == null ? '' : `: ${reasonLine(told.reason)}`;
  const show = `(${showCommand(fn.name)})`;
  const { starting, failed } = told ?? { starting: 0, failed: 0 };
  if (failed > 0 || (starting === 0 && why !== '')) return `${fn.name} is failed${why} ${show}`;
  if (starting === 0 && fn.spec.min_replicas === 0) return `${fn.name} is scaled to zero ${show}`;
  return `${fn.name} is starting${why} ${show}`;
};

/** Which states are said when: each change, with `SAY_MS` between two lines. Times are monotonic milliseconds. */
export class WaitingNotice {
  #said: string | null = null;
  #saidAt = Number.NEGATIVE_INFINITY;

  /** Whether this state is to be said now. */
  isNews(state: string | null, now: number): boolean {
    if (state === null || state === this.#said || now - this.#saidAt < SAY_MS) return false;
    this.#said = state;
    this.#saidAt = now;
    return true;
  }
}

export type WaitingOptions = {
  readonly functionName: string;
  /** That which the calls run on. */
  readonly version: string;
  /** What becomes of the work when the command is stopped. */
  readonly ending: string;
  readonly say?: (line: string) => void;
};

type Watched = Pick<WaitingOptions, 'functionName' | 'version'>;

/** One look: what the calls wait for, null for nothing that is known. Why the server refuses a look is for the wait to report. */
export const look = async (
  client: Sluice,
  { functionName, version }: Watched,
  signal: AbortSignal,
): Promise<string | null> => {
  try {
    return waitingState(await client.function(functionName).show(signal), version);
  } catch (error) {
    return error instanceof SluiceError ? null : 'the server does not answer, and is asked again';
  }
};

/** Looks until the function that it returns is called. */
export const watchWaiting = (client: Sluice, options: WaitingOptions): (() => void) => {
  const { ending, say = (line) => process.stderr.write(line) } = options;
  const stop = new AbortController();
  const notice = new WaitingNotice();
  const watch = async (): Promise<void> => {
    for (;;) {
      await pause(LOOK_MS, stop.signal);
      const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(LOOK_LONGEST_MS)]);
      const state = await look(client, options, signal);
      if (!stop.signal.aborted && notice.isNews(state, performance.now()))
        say(`waiting: ${state}; ${ending}\n`);
    }
  };
  watch().catch(() => undefined);
  return () => stop.abort();
};

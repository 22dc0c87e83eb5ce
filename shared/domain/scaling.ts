/** The words of scaling: how many replicas a function may have, and what they are counted by. */

/**
 * Of a function, whatever its version; a live update changes it and starts no replica again. It counts the replicas of all
 * worker processes together. A function without one has its spec's minimum in each worker process.
 */
export type Scaling = {
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** Rows, waiting and running, that one replica is worth. null: twice the largest batch. */
  readonly targetRows: number | null;
  /** How old the oldest waiting row may become before one replica more is wanted, in milliseconds. null: does not count. */
  readonly targetWaitMs: number | null;
  /** Mean CPU of the replicas, in percent of what each asked for. null: does not count. */
  readonly targetCpuPercent: number | null;
  /** The largest number wanted within this time holds: the stabilisation window of scaling down. */
  readonly scaleDownMs: number;
  /** Nothing to do for this long lets the last replica go, where minReplicas is 0. */
  readonly idleMs: number;
};

export const REPLICAS_MAX = 1000;

/** Of a plain function whose `max_replicas` is above its `min_replicas`, in each worker process. */
export const plainScaling = ({ min, max }: { readonly min: number; readonly max: number }): Scaling => ({
  minReplicas: min,
  maxReplicas: max,
  targetRows: null,
  targetWaitMs: null,
  targetCpuPercent: null,
  scaleDownMs: 60_000,
  idleMs: 60_000,
});

export type ScalingLoad = {
  /** Rows that no replica has yet. */
  readonly waitingRows: number;
  /** Rows of batches that are sealed: they run, or lie before a replica, or wait for another try. */
  readonly runningRows: number;
  /** Age of the oldest waiting row; null when none waits. */
  readonly oldestMs: number | null;
};

/** What the policy remembers between two looks; it is made by `newHistory` and by each decision, never changed. */
export type ScalingHistory = {
  /** What the load was worth, newest last, within `scaleDownMs`. */
  readonly past: readonly { readonly at: number; readonly replicas: number }[];
  /** When there was something to do last. */
  readonly busyAt: number;
};

export type ScalingQuery = {
  readonly scaling: Scaling;
  /** Rows of the largest batch. */
  readonly batchRows: number;
  readonly load: ScalingLoad;
  /** Mean CPU of the ready replicas, in percent of what each asked for; null where it is not known. */
  readonly cpuPercent: number | null;
  /** Replicas that were wanted at the last look. */
  readonly current: number;
  /** Of these, those that take batches. */
  readonly ready: number;
  readonly history: ScalingHistory;
  readonly now: number;
};

/** What decided: a bound, the load, the window that holds what was wanted, or nothing to do. */
export type ScalingCause = 'rows' | 'wait' | 'cpu' | 'window' | 'idle' | 'min' | 'max';

export type ScalingDecision = {
  readonly replicas: number;
  readonly cause: ScalingCause;
  readonly history: ScalingHistory;
};

/** CPU within a tenth of its target moves nothing: replicas never use alike. */
const CPU_TOLERANCE = 0.1;
/** A look a second over the longest window would be thousands: entries are thinned to this many. */
const PAST_MAX = 120;

export const newHistory = (now: number, replicas: number): ScalingHistory => ({
  past: [{ at: now, replicas }],
  busyAt: now,
});

/**
 * How many replicas a function is to have. Up at once, by whichever of rows, age and CPU wants most; down only as far as the
 * most that the load was worth within `scaleDownMs`; to none, where that is allowed, after `idleMs` with nothing to do, and
 * up again with the first row. Pure: the same query, the same decision.
 */
export const wantedReplicas = (query: ScalingQuery): ScalingDecision => {
  const { scaling, load, current, now } = query;
  const isBusy = load.waitingRows + load.runningRows > 0;
  const isIdle = !isBusy && now - query.history.busyAt >= scaling.idleMs;
  const worth = worthOf(query, isBusy, isIdle);
  const history = remembered(query, worth.replicas, isBusy);
  const held = Math.min(current, Math.max(...history.past.map(({ replicas }) => replicas)));
  const isLast = current > 0 && !isIdle;
  const wanted = Math.max(worth.replicas, held <= 1 ? Number(isLast) : held);
  const bounded = Math.min(Math.max(wanted, scaling.minReplicas), scaling.maxReplicas);
  return { replicas: bounded, cause: causeOf(worth, wanted, bounded), history };
};

type Worth = { readonly replicas: number; readonly cause: 'rows' | 'wait' | 'cpu' | 'idle' };

const worthOf = (
  { scaling, batchRows, load, ...query }: ScalingQuery,
  isBusy: boolean,
  isIdle: boolean,
): Worth => {
  const rows = scaling.targetRows ?? 2 * batchRows;
  const all: Worth[] = [
    { replicas: Number(isBusy), cause: isBusy ? 'rows' : 'idle' },
    { replicas: Math.ceil((load.waitingRows + load.runningRows) / Math.max(1, rows)), cause: 'rows' },
    { replicas: byWait(scaling, load, query), cause: 'wait' },
    // What a handler does when nothing was asked of it for long keeps no replica.
    { replicas: isIdle ? 0 : byCpu(scaling, query), cause: 'cpu' },
  ];
  return all.reduce((most, next) => (next.replicas > most.replicas ? next : most));
};

/** One more when the last one that was wanted is there: until then nobody knows whether it is enough. */
const byWait = (
  { targetWaitMs }: Scaling,
  { oldestMs }: ScalingLoad,
  { current, ready }: Pick<ScalingQuery, 'current' | 'ready'>,
): number => {
  if (targetWaitMs === null || oldestMs === null || oldestMs <= targetWaitMs) return 0;
  return ready >= current ? current + 1 : current;
};

const byCpu = (
  { targetCpuPercent }: Scaling,
  { cpuPercent, current, ready }: Pick<ScalingQuery, 'cpuPercent' | 'current' | 'ready'>,
): number => {
  if (targetCpuPercent === null || cpuPercent === null || ready === 0) return 0;
  const ratio = cpuPercent / targetCpuPercent;
  if (Math.abs(ratio - 1) <= CPU_TOLERANCE) return current;
  // Those that are on their way will take their part; what is wanted above them waits until they are there.
  return ratio > 1 && ready < current ? current : Math.ceil(ready * ratio);
};

const remembered = (
  { scaling, history, now }: ScalingQuery,
  replicas: number,
  isBusy: boolean,
): ScalingHistory => {
  const bounded = Math.min(Math.max(replicas, scaling.minReplicas), scaling.maxReplicas);
  // Looks close together are one entry with the first one's time, which stays for as long as its last one would.
  const stepMs = scaling.scaleDownMs / PAST_MAX;
  const past = history.past.filter(({ at }) => at > now - scaling.scaleDownMs - stepMs);
  const last = past.at(-1);
  const isClose = last !== undefined && now - last.at < stepMs;
  if (isClose) past[past.length - 1] = { at: last.at, replicas: Math.max(last.replicas, bounded) };
  else past.push({ at: now, replicas: bounded });
  return { past, busyAt: isBusy ? now : history.busyAt };
};

const causeOf = (worth: Worth, wanted: number, bounded: number): ScalingCause => {
  if (bounded < wanted) return 'max';
  if (bounded > wanted) return 'min';
  if (wanted > worth.replicas) return 'window';
  return worth.cause;
};

/**
 * The part of one of `workers` worker processes in a total that all of them compute: they differ by one at most, and
 * together they are the total. `rank` counts from 0.
 */
export const share = (total: number, rank: number, workers: number): number =>
  Math.floor(total / workers) + (rank < total % workers ? 1 : 0);

/**
 * Each worker's part of a total that all of them compute, by rank: as even as what each can have at most allows. Where all
 * together cannot have it, each keeps what it can have, and tries an even part of the rest.
 */
export const sharesWithin = (total: number, most: readonly number[]): readonly number[] => {
  const all = most.reduce((sum, one) => sum + one, 0);
  if (all < total) return most.map((one, rank) => one + share(total - all, rank, most.length));
  const parts = most.map(() => 0);
  let open = [...most.keys()];
  for (let left = total; ; ) {
    const even = open.map((_, rank) => share(left, rank, open.length));
    const full = open.filter((worker, rank) => even[rank]! > most[worker]!);
    if (full.length === 0) {
      for (const [rank, worker] of open.entries()) parts[worker] = even[rank]!;
      return parts;
    }
    for (const worker of full) {
      parts[worker] = most[worker]!;
      left -= most[worker]!;
    }
    open = open.filter((worker) => !full.includes(worker));
  }
};

/** What one of a worker's replicas does, as far as it says what the worker can have. */
type Start = { readonly state: 'starting' | 'ready' | 'failed' | 'stopping'; readonly restarts: number };

/** A replica that has failed to start so often will not start the next time; others are asked instead. */
export const STARTS_MAX = 3;

/** Replicas that a worker can have, by what became of those it has: more are not tried while some cannot start. */
export const mostReplicas = (replicas: readonly Start[]): number => {
  const isStuck = ({ state, restarts }: Start): boolean => state === 'failed' && restarts + 1 >= STARTS_MAX;
  if (!replicas.some(isStuck)) return Number.POSITIVE_INFINITY;
  return replicas.filter(({ state }) => state === 'ready' || state === 'starting').length;
};

/**
 * A worker's replicas in the end. One that cannot have its part goes on trying with one replica: so it keeps what it knows of
 * itself, and takes its part again when that one starts.
 */
export const partWithTry = (part: number, most: number, total: number): number =>
  part < most ? part : Math.max(part, Math.min(total, most + 1));

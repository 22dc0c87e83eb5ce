import { Buffer } from '../../services/buffer/buffer.ts';
import { type Call, isFinished } from '../../shared/domain/call.ts';
import { silentLog } from '../../shared/runtime/log.ts';
import type { ResultPart } from '../../shared/store/ports/queue.ts';
import type { StoreServer } from '../../shared/store/ports/server.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { answerOf, kindOf, outputOf, type Plan, payloadOf, readOutput, runRows, specOf } from './plan.ts';
import { Random } from './random.ts';
import { VerbCount } from './verb-count.ts';
import { VirtualTime } from './virtual-time.ts';
import { SimulatedWorker } from './worker.ts';

export type WorldOptions = {
  readonly open: () => Promise<StoreServer>;
  readonly seed: number;
  readonly claimsMax: number;
  readonly killers: boolean;
  readonly transientShare: number;
  readonly silentShare: number;
  readonly releaseShare: number;
};

type Submitted = { callId: number; values: number[]; cancelled: boolean; deadline: boolean };

const CALLS = 60;
/** Of one call. Where batches are small, calls are smaller: otherwise batches of one row make a run five times as long. */
const ROWS_MAX = 40;
const BATCHES_PER_CALL_MAX = 8;
/** As the store counts a row of `payloadOf`. */
const ROW_BYTES = 8;

const STEPS_MAX = 100_000;

export class World {
  rows = 0;
  /** Good rows that failed, or bad rows that did not. */
  readonly unexpectedFailures: string[] = [];
  #options: WorldOptions;
  #random: Random;
  #time = new VirtualTime();
  #server: StoreServer | null = null;
  #store!: Store;
  #verbs!: VerbCount;
  #versionId = 0;
  #buffer!: Buffer;
  #workers: SimulatedWorker[] = [];
  #submitted: Submitted[] = [];
  #pending = 0;
  #failure: unknown = null;
  #nextValue = 1;
  /** Of the calls in the order of their submission: what has been seen finished is looked at again at the end. */
  #finished = 0;
  #rowsMax = ROWS_MAX;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
  }

  async run(): Promise<void> {
    await this.#open();
    this.#schedule();
    for (let steps = 0; !(await this.#allFinished()); steps += 1) {
      if (steps > STEPS_MAX) throw new Error('the simulation does not come to an end');
      if (!this.#time.step()) throw new Error('nothing is left to happen, and calls are unfinished');
      await this.#quiet();
      if (this.#failure) throw this.#failure;
    }
    for (const submitted of this.#submitted) await this.#check(submitted);
  }

  async close(): Promise<void> {
    await this.#buffer?.stop();
    await this.#store?.close();
    await this.#server?.close();
  }

  async #open(): Promise<void> {
    this.#server = await this.#options.open();
    this.#verbs = new VerbCount(this.#server.connect());
    this.#store = this.#verbs.store;
    const { record } = await this.#store.registry.deploy({
      now: this.#time.wall,
      spec: specOf(this.#random),
    });
    const { spec, id } = record.current;
    this.#versionId = id;
    const { sizeRows, bytesMax } = spec.batching;
    const batchRows = Math.min(sizeRows!, Math.floor(bytesMax / ROW_BYTES));
    this.#rowsMax = Math.min(ROWS_MAX, BATCHES_PER_CALL_MAX * batchRows);
    this.#buffer = new Buffer(this.#store, silentLog(), this.#time.clocks);
    await this.#buffer.start();
    const { transientShare, silentShare, releaseShare } = this.#options;
    const plan: Plan = {
      versionId: id,
      slots: this.#random.int(1, 3),
      policy: { retry: spec.retry, isolation: spec.isolation, claimsMax: this.#options.claimsMax },
      silentShare,
      releaseShare,
      run: (values, random) => runRows(values, random, transientShare),
      output: outputOf,
    };
    this.#workers = [0, 1].map(
      (n) => new SimulatedWorker(`worker-${n}`, this.#store.queue, this.#time, this.#random, plan),
    );
  }

  /** Puts all callers, cancels and the periodic work into virtual time. */
  #schedule(): void {
    for (let n = 0; n < CALLS; n += 1) {
      this.#time.after(this.#random.int(0, 2000), () => this.#do(() => this.#submit()));
    }
    const every = (ms: number, work: () => Promise<unknown>): void => {
      this.#time.after(ms, () => {
        this.#do(work);
        every(ms, work);
      });
    };
    every(20, () =>
      this.#store.queue.expired({ now: this.#time.wall, claimsMax: this.#options.claimsMax, limit: 100 }),
    );
    for (const worker of this.#workers) every(35, () => worker.tick());
  }

  #do(work: () => Promise<unknown>): void {
    this.#pending += 1;
    work()
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#pending -= 1;
      });
  }

  async #submit(): Promise<void> {
    const values = Array.from({ length: this.#random.int(0, this.#rowsMax) }, () => this.#value());
    this.rows += values.length;
    const deadline = this.#random.chance(0.1);
    const now = this.#time.wall;
    const payload = payloadOf(values);
    const { callId } = await this.#store.queue.admit({
      now,
      functionName: 'double',
      versionId: this.#versionId,
      apiKeyId: 0,
      lane: '',
      priority: 0,
      deadlineAt: deadline ? now + this.#random.int(1, 300) : null,
      rows: values.length,
      bytes: values.length * ROW_BYTES,
      schemaKey: '',
      payload,
      idempotency: null,
      metadata: {},
      traceparent: null,
    });
    const submitted = { callId, values, cancelled: this.#random.chance(0.1), deadline };
    this.#submitted.push(submitted);
    if (!submitted.cancelled) return;
    this.#time.after(this.#random.int(0, 200), () =>
      this.#do(() => this.#store.queue.cancel({ now: this.#time.wall, callId })),
    );
  }

  #value(): number {
    for (;;) {
      const value = this.#nextValue;
      this.#nextValue += 1;
      if (this.#options.killers || kindOf(value) !== 'killer') return value;
    }
  }

  /** Waits until no request of anyone is under way and every event has been delivered: nobody has asked for more. */
  async #quiet(): Promise<void> {
    let calm = 0;
    let before = -1;
    for (let turns = 0; calm < 2; turns += 1) {
      if (turns > 10_000) throw new Error('the store does not come to rest');
      // What was told before the answer has been heard after it.
      await this.#store.counters();
      await new Promise((resolve) => setImmediate(resolve));
      const { asked, open } = this.#verbs;
      calm = this.#pending === 0 && open === 0 && asked === before ? calm + 1 : 0;
      before = asked;
    }
  }

  async #allFinished(): Promise<boolean> {
    if (this.#submitted.length < CALLS) return false;
    for (; this.#finished < CALLS; this.#finished += 1) {
      const call = await this.#store.queue.call(this.#submitted[this.#finished]!.callId);
      if (!call || call === 'gone' || !isFinished(call.status)) return false;
    }
    return true;
  }

  async #check(submitted: Submitted): Promise<void> {
    const parts: ResultPart[] = [];
    let call: Call | null = null;
    for (let from: number | null = 0; from !== null; ) {
      const page = await this.#store.queue.result({ callId: submitted.callId, from, bytesMax: 1000 });
      if (!page || page === 'gone') throw new Error(`call ${submitted.callId} has no result`);
      parts.push(...page.parts);
      call = page.call;
      from = page.next;
    }
    let row = 0;
    const counts = { ok: 0, failed: 0, cancelled: 0, expired: 0 };
    for (const part of parts) {
      if (part.from !== row)
        throw new Error(`call ${submitted.callId}: a part begins at ${part.from}, not at ${row}`);
      if (part.state === 'pending') {
        const known = JSON.stringify({
          call,
          parts: parts.map(({ state, from, count }) => [state, from, count]),
        });
        throw new Error(`call ${submitted.callId}: row ${row} has no outcome: ${known}`);
      }
      counts[part.state] += part.count;
      for (let n = 0; n < part.count; n += 1) this.#checkRow(submitted, part, n);
      row += part.count;
    }
    if (row !== submitted.values.length)
      throw new Error(`call ${submitted.callId}: ${row} of ${submitted.values.length} rows`);
    if (JSON.stringify(call?.counts) !== JSON.stringify(counts)) {
      throw new Error(
        `call ${submitted.callId}: counted ${JSON.stringify(call?.counts)}, found ${JSON.stringify(counts)}`,
      );
    }
  }

  #checkRow(submitted: Submitted, part: ResultPart, n: number): void {
    const value = submitted.values[part.from + n]!;
    const where = `call ${submitted.callId} row ${part.from + n} (${kindOf(value)})`;
    if (part.state === 'ok') {
      const answer = readOutput(part.output.bytes, part.outputRow + n);
      if (answer !== answerOf(value)) throw new Error(`${where}: answered ${answer}, not ${answerOf(value)}`);
      if (kindOf(value) !== 'good') this.unexpectedFailures.push(`${where} is ok`);
    } else if (part.state === 'failed') {
      if (kindOf(value) === 'good')
        this.unexpectedFailures.push(`${where}: ${part.error.code} ${part.error.message}`);
    } else if (part.state === 'cancelled' ? !submitted.cancelled : !submitted.deadline) {
      throw new Error(`${where} is ${part.state} and nobody asked for it`);
    }
  }
}

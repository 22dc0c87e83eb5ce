/**
 * The verb `settle`: what a worker settles of a function in one tick travels in one script. A large call's batches end nearly
 * together, and a script for each would read and write the call, the counters and the slots again.
 */
import { BugError } from '../../errors/sluice-error.ts';
import type { SettleAnswer, Settlement } from '../ports/queue.ts';
import { dropAsides, isForAside, setAside } from './aside.ts';
import { packParts, packSlotOutcomes } from './batch-packing.ts';
import { endJob } from './batching.ts';
import { tooLong } from './large-bytes.ts';
import { functionOfId, isFunctionNumber, serialOfId } from './layout.ts';
import { pack, unpack } from './packing.ts';
import { bump, dispatchReady, type QueueContext, runScript } from './queue-context.ts';
import { toSluiceError } from './replies.ts';
import { TurnGroups } from './turn-groups.ts';

/** Outcomes with slices that go on, and output bytes, in one script, unless one settle has more: some milliseconds, in which all others wait. */
const SCRIPT_SLICES_MAX = 500;
const SCRIPT_BYTES_MAX = 2 ** 20;

const CODE = { stale: 0, committed: 1, notWhatWasLeased: 2, givenUp: 3, asideGone: 4, failed: 5 } as const;

type Told = readonly [code: number, told: number | string];
type Reply = readonly [added: number[], told: Told[]];

/** `reference`: to the output's object; '' where it goes with the script. */
type Asked = {
  readonly settlement: Settlement;
  readonly output: Uint8Array | null;
  readonly reference: string;
  readonly resolve: (answer: SettleAnswer) => void;
  readonly reject: (error: unknown) => void;
};

const shareOf = ({ settlement, output }: Asked): number =>
  Math.max(
    settlement.continuations.reduce((sum, { slices }) => sum + slices.length, settlement.outcomes.length) /
      SCRIPT_SLICES_MAX,
    (output?.byteLength ?? 0) / SCRIPT_BYTES_MAX,
  );

export class Settles {
  readonly #context: QueueContext;
  readonly #groups = new TurnGroups<number, Asked>(shareOf, (fn, asked) => void this.#send(fn, asked));

  constructor(context: QueueContext) {
    this.#context = context;
  }

  async settle(settlement: Settlement): Promise<SettleAnswer> {
    const { now, batchId, output } = settlement;
    const fn = functionOfId(batchId);
    if (output === null && settlement.outcomes.some(({ state }) => state === 'ok'))
      throw new BugError(`batch ${batchId} settles ok rows without an output`);
    if (!isFunctionNumber(fn)) return { accepted: false, stale: true };
    const { largeBytes } = this.#context;
    if (output === null || !largeBytes.isLarge(output)) return this.#ask(fn, settlement, output, '');
    return largeBytes.naming(fn, now, output, (reference) => this.#ask(fn, settlement, null, reference));
  }

  flush(): void {
    this.#groups.flush();
  }

  #ask(
    fn: number,
    settlement: Settlement,
    output: Uint8Array | null,
    reference: string,
  ): Promise<SettleAnswer> {
    return new Promise((resolve, reject) => {
      this.#groups.add(String(fn), fn, { settlement, output, reference, resolve, reject });
    });
  }

  /** @param mayBeAside large outputs go beside the script; at maxmemory that is refused, and the script, which is not, takes them along */
  async #send(fn: number, asked: readonly Asked[], mayBeAside = true): Promise<void> {
    const { largeTurns } = this.#context;
    const asides = asked.map(({ output }) => mayBeAside && output !== null && isForAside(output));
    const large = asked.reduce((sum, { output }, index) => sum + (asides[index] ? output!.byteLength : 0), 0);
    const exchange = (): Promise<Reply> => this.#exchange(fn, asked, asides);
    try {
      const [added, told] = await (large === 0 ? exchange() : largeTurns.run(large, exchange));
      const left: Asked[] = [];
      const answer = (goesOn: boolean): void =>
        asked.forEach((one, index) => {
          if (one.settlement.continuations.length > 0 !== goesOn) return;
          if (!this.#answer(one, told[index]!)) left.push(one);
        });
      answer(false);
      await dispatchReady(this.#context, fn, added);
      answer(true);
      if (left.length > 0) void this.#send(fn, left, false);
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }

  async #exchange(fn: number, asked: readonly Asked[], asides: readonly boolean[]): Promise<Reply> {
    const names: string[] = [];
    const args: (number | string | Uint8Array)[] = [];
    let now = 0;
    for (const [index, { settlement, output, reference }] of asked.entries()) {
      const { batchId, token, continuations, startedAt, handlerMs } = settlement;
      const { outcomes, errors } = packSlotOutcomes(fn, settlement.outcomes);
      const name = asides[index] ? setAside(this.#context, fn, output!) : '';
      if (name !== '') names.push(name);
      args.push(
        serialOfId(batchId),
        token,
        pack([outcomes, packParts(fn, continuations), startedAt, handlerMs]),
      );
      args.push(errors, name === '' && output !== null ? output : '', reference, name);
      now = Math.max(now, settlement.now);
    }
    try {
      return unpack<Reply>(await runScript<Buffer>(this.#context, 'settle', fn, now, args));
    } catch (error) {
      dropAsides(this.#context, fn, names);
      throw error;
    }
  }

  /** false: what was set aside is not there. */
  #answer({ settlement, resolve, reject }: Asked, [code, told]: Told): boolean {
    const { batchId, token } = settlement;
    if (code === CODE.asideGone) return false;
    if (code === CODE.failed) reject(toSluiceError(new Error(String(told))));
    else if (code === CODE.givenUp) reject(tooLong());
    else if (code === CODE.notWhatWasLeased)
      reject(new BugError(`outcomes and continuations of batch ${batchId} do not cover its rows: ${told}`));
    else {
      endJob(this.#context, batchId, token);
      if (code === CODE.stale) bump(this.#context, 'settle_conflicts');
      else bump(this.#context, 'late_rows', told as number);
      resolve({ accepted: code === CODE.committed, stale: code === CODE.stale });
    }
    return true;
  }
}

/** The verb `admit`: the calls of a tick that go to one function travel in one script. */
import type { CallStatus } from '../../domain/call.ts';
import { BugError, SluiceError } from '../../errors/sluice-error.ts';
import type { Admission, Admitted } from '../ports/queue.ts';
import { bytesFull, rowsFull } from '../queue-refusals.ts';
import { dropAsides, isForAside, setAside } from './aside.ts';
import { tooLong } from './large-bytes.ts';
import { callIdOf, functionOfVersion, isFunctionNumber, serialOfVersion } from './layout.ts';
import { headOf, idempotencyOf, objectKind, pack, payloadOf, STATUSES, unpack } from './packing.ts';
import { bump, noVersion, type QueueContext, runScript } from './queue-context.ts';
import { TurnGroups } from './turn-groups.ts';

/** Calls and payload bytes in one script: some milliseconds, in which all others wait. */
const SCRIPT_CALLS_MAX = 256;
const SCRIPT_BYTES_MAX = 2 ** 20;
/** Numbers of an answer: code, a, b (scripts/admit.lua). */
const ANSWER_WIDTH = 3;
const CODE = {
  admitted: 0,
  attached: 1,
  mismatch: 2,
  rowsFull: 3,
  bytesFull: 4,
  noVersion: 5,
  givenUp: 6,
  asideGone: 7,
} as const;

type Asked = {
  readonly admission: Admission;
  readonly kind: number;
  readonly payload: Uint8Array;
  readonly resolve: (admitted: Admitted) => void;
  readonly reject: (error: Error) => void;
};
type Place = { readonly fn: number; readonly name: string };

const isWhole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

const checkNumbers = ({ now, rows, bytes, apiKeyId, deadlineAt }: Admission): void => {
  for (const [name, value] of Object.entries({ now, rows, bytes, apiKeyId, deadlineAt: deadlineAt ?? 0 }))
    if (!isWhole(value)) throw new BugError(`a call is admitted with ${name} ${value}`);
};

export class Admissions {
  readonly #context: QueueContext;
  readonly #groups: TurnGroups<Place, Asked>;

  constructor(context: QueueContext) {
    this.#context = context;
    this.#groups = new TurnGroups(
      ({ payload }) => Math.max(1 / SCRIPT_CALLS_MAX, payload.byteLength / SCRIPT_BYTES_MAX),
      (place, asked) => void this.#send(place, asked),
    );
  }

  admit(admission: Admission): Promise<Admitted> {
    const fn = functionOfVersion(admission.versionId);
    const { kind, bytes } = payloadOf(admission);
    const isLarge = admission.rows > 0 && this.#context.largeBytes.isLarge(bytes);
    try {
      checkNumbers(admission);
      if (!isFunctionNumber(fn)) throw noVersion(admission.versionId);
      this.#context.checkRoom(isLarge ? 0 : admission.bytes);
    } catch (error) {
      if (error instanceof SluiceError) bump(this.#context, 'admissions_refused');
      return Promise.reject(error as Error);
    }
    return isLarge ? this.#admitLarge(fn, admission, bytes) : this.#ask(fn, admission, kind, bytes);
  }

  #ask(fn: number, admission: Admission, kind: number, payload: Uint8Array): Promise<Admitted> {
    return new Promise((resolve, reject) => {
      const name = admission.functionName;
      this.#groups.add(`${fn} ${name}`, { fn, name }, { admission, kind, payload, resolve, reject });
    });
  }

  /** The payload is in the bucket before the script refers to it. */
  #admitLarge(fn: number, admission: Admission, bytes: Uint8Array): Promise<Admitted> {
    return this.#context.largeBytes.naming(fn, admission.now, bytes, (reference) =>
      this.#ask(fn, admission, objectKind(admission), Buffer.from(reference)),
    );
  }

  flush(): void {
    this.#groups.flush();
  }

  async #send({ fn, name }: Place, asked: readonly Asked[], mayBeAside = true): Promise<void> {
    const { largeTurns } = this.#context;
    const isAside = ({ payload }: Asked): boolean => mayBeAside && isForAside(payload);
    const large = asked.filter(isAside).reduce((sum, { payload }) => sum + payload.byteLength, 0);
    const ask = (): Promise<Buffer> => this.#exchange(fn, name, asked, isAside);
    try {
      const answers = unpack<number[]>(await (large === 0 ? ask() : largeTurns.run(large, ask)));
      const left: Asked[] = [];
      asked.forEach((one, index) => {
        const answer = answers.slice(index * ANSWER_WIDTH, (index + 1) * ANSWER_WIDTH);
        if (answer[0] === CODE.asideGone) left.push(one);
        else this.#answer(fn, one, answer);
      });
      if (left.length > 0) void this.#send({ fn, name }, left, false);
    } catch (error) {
      if (error instanceof SluiceError && error.code === 'memory_full')
        bump(this.#context, 'admissions_refused', asked.length);
      for (const { reject } of asked) reject(error as Error);
    }
  }

  async #exchange(
    fn: number,
    name: string,
    asked: readonly Asked[],
    isAside: (one: Asked) => boolean,
  ): Promise<Buffer> {
    const { queueRowsMax, queueBytesMax } = this.#context.limits;
    const facts: (number | string | false)[] = [];
    const values: (Uint8Array | string)[] = [];
    let now = 0;
    for (const one of asked) {
      const { admission, kind, payload } = one;
      const { versionId, rows, bytes, deadlineAt, idempotency } = admission;
      const idempotencyKey = idempotencyOf(admission);
      const isBeside = isAside(one);
      facts.push(serialOfVersion(versionId), rows, bytes, deadlineAt ?? false);
      facts.push(idempotencyKey, idempotency?.bodyDigest ?? false, kind, Number(isBeside));
      values.push(headOf(admission, kind), isBeside ? setAside(this.#context, fn, payload) : payload);
      now = Math.max(now, admission.now);
    }
    const waits = Number(this.#context.link.waitsForDisks);
    const args = [queueRowsMax, queueBytesMax, name, waits, pack(facts), ...values];
    try {
      return await runScript<Buffer>(this.#context, 'admit', fn, now, args);
    } catch (error) {
      const asides = values.filter((value) => typeof value === 'string');
      dropAsides(this.#context, fn, asides);
      throw error;
    }
  }

  #answer(fn: number, { admission, resolve, reject }: Asked, answer: readonly number[]): void {
    const [code, a, b] = answer as [number, number, number];
    if (code === CODE.admitted || code === CODE.attached) {
      const status: CallStatus = STATUSES[b]!;
      resolve({ callId: callIdOf(fn, a), attached: code === CODE.attached, status });
      return;
    }
    bump(this.#context, 'admissions_refused');
    reject(this.#refusal(admission, code, a, b));
  }

  #refusal(admission: Admission, code: number, a: number, b: number): SluiceError {
    const { functionName, versionId, idempotency } = admission;
    const { limits } = this.#context;
    if (code === CODE.noVersion)
      return new SluiceError(
        'function_not_found',
        `There is no function "${functionName}" with the version ${versionId}.`,
      );
    if (code === CODE.givenUp) return tooLong();
    if (code === CODE.mismatch)
      return new SluiceError(
        'idempotency_mismatch',
        `The Idempotency-Key "${idempotency?.key}" was used with another body; use a new key for a new body.`,
        { field: 'Idempotency-Key' },
      );
    return code === CODE.rowsFull ? rowsFull(admission, limits, a, b) : bytesFull(admission, limits, a);
  }
}

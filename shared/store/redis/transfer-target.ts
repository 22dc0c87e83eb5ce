/**
 * Builds a store in Redis from what another one holds. Numbers follow from the source's ids, so that a step which is
 * done again writes what is there: call n is the source's call `first + n - 1`, records lie below those of errors.
 */
import { randomUUID } from 'node:crypto';
import { withoutSecrets } from '../../config/redaction.ts';
import { checkPrefix } from '../../config/redis-prefix.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { BucketOptions } from '../ports/server.ts';
import type {
  MovedId,
  TransferBatch,
  TransferCall,
  TransferCounts,
  TransferDocument,
  TransferFunction,
  TransferHead,
  TransferPosition,
  TransferTarget,
} from '../ports/transfer.ts';
import { type ArrivingMark, refuseTaken } from '../transfer-mark.ts';
import { parseAddress } from './address.ts';
import { takeDocument } from './documents.ts';
import { checkBucket, LargeBytes, tooLong } from './large-bytes.ts';
import { callIdOf, Layout, VERSIONS_MAX } from './layout.ts';
import { Link } from './link.ts';
import { MODES, pack, payloadOf, REASONS, readCall } from './packing.ts';
import { arrivingCall, type Numbers } from './transfer-calls.ts';
import { addFormer, resolveFormer } from './transfer-lineage.ts';
import { readMark, refuseServed, writeMark } from './transfer-mark.ts';
import { countRedis, type PackedBatch, type Place, runTransfer, storedValue } from './transfer-pages.ts';

/** Ids of the source within which numbers are given: half of what a function's slot can number. */
const SPAN_MAX = 2 ** 31;

type Known = { readonly fn: number; readonly versions: ReadonlyMap<number, number> };

class RedisTarget implements TransferTarget {
  readonly place: string;
  readonly #link: Link;
  readonly #layout: Layout;
  readonly #functions = new Map<number, Known>();
  #generation = '';
  readonly #bucket: BucketOptions | null;
  #largeBytes: LargeBytes | null = null;
  #head: TransferHead | null = null;
  #stamp = 0;

  constructor(link: Link, layout: Layout, place: string, bucket: BucketOptions | null) {
    this.#bucket = bucket;
    this.#link = link;
    this.#layout = layout;
    this.place = place;
  }

  get #at(): Place {
    return { link: this.#link, layout: this.#layout, generation: this.#generation };
  }

  get #numbers(): Numbers {
    const { callIds, batchIds } = this.#head!;
    return {
      call: (id) => id - callIds.first + 1,
      record: (id) => id - batchIds.first + 1,
      errors: (id) => batchIds.last - batchIds.first + 1 + (id - callIds.first + 1),
    };
  }

  async arrive(head: TransferHead): Promise<TransferPosition> {
    const [link, layout] = [this.#link, this.#layout];
    this.#head = head;
    head.functions.forEach(({ id, versions }, index) => {
      const serials = new Map(versions.map((version, at) => [version.id, at + 1]));
      this.#functions.set(id, { fn: index + 1, versions: serials });
    });
    await link.checkDatabase();
    const mark = await readMark(link, layout);
    if (mark === null || !('position' in mark) || mark.id !== head.id) await this.#begin(head, mark !== null);
    this.#generation = String(await link.command('GET', layout.store('generation')));
    await checkBucket(link, layout, this.#bucket);
    this.#largeBytes = new LargeBytes(this.#at, this.#bucket);
    const { position } = await this.#mark();
    if (position.callId === null && position.batchId === null) await this.#layOut(head);
    else if (position.callId !== null) await this.#readStamp(position.callId);
    return position;
  }

  /** The new generation refuses whoever serves the empty store by now. */
  async #begin(head: TransferHead, isMarked: boolean): Promise<void> {
    const [link, layout] = [this.#link, this.#layout];
    await refuseServed(link, layout, this.place, Date.now());
    const held = await Promise.all(
      (['functions', 'api-keys'] as const).map((key) => link.command<number>('HLEN', layout.store(key))),
    );
    held.push(await link.command<number>('ZCARD', layout.store('documents')));
    if (isMarked || held.some((n) => n > 0)) refuseTaken(this.place, 'is not empty');
    for (const { name, versions } of head.functions) {
      if (versions.length <= VERSIONS_MAX) continue;
      throw new SluiceError(
        'internal',
        `Function "${name}" of ${head.place} has ${versions.length} versions, and a store in Redis numbers ${VERSIONS_MAX}.`,
        {
          fix: 'Serve it on for some hours: superseded versions go when no result of them is readable any more.',
        },
      );
    }
    for (const { first, last } of [head.callIds, head.batchIds]) {
      if (last - first < SPAN_MAX) continue;
      throw new SluiceError('internal', `The ids of ${head.place} lie too far apart for a store in Redis.`, {
        fix: 'From one Redis to another, use replication or its dump; from a data directory, let old calls expire first.',
      });
    }
    await link.command('SET', layout.store('generation'), randomUUID());
    const position: TransferPosition = { callId: null, batchId: null, isFinished: false };
    await writeMark(link, layout, { state: 'arriving', id: head.id, from: head.place, position });
  }

  async #layOut(head: TransferHead): Promise<void> {
    const [link, layout] = [this.#link, this.#layout];
    for (const one of head.functions) await this.#layOutFunction(one);
    for (const { id, secretHash, ...key } of head.keys) {
      await link.command('HSET', layout.store('api-keys'), id, JSON.stringify(key));
      await link.command('HSET', layout.store('api-key-hashes'), secretHash, id);
    }
    await link.command('SET', layout.store('api-key-count'), head.nextKeyId - 1);
    await link.command('HSET', layout.store('document-revisions'), 'last', head.lastRevision);
    await link.command('SET', layout.store('function-count'), head.functions.length);
    for (const { id, name } of head.functions)
      await link.command('HSET', layout.store('functions'), name, this.#functions.get(id)!.fn);
  }

  /** As scripts/deploy.lua writes it. */
  async #layOutFunction(one: TransferFunction): Promise<void> {
    const { fn, versions } = this.#functions.get(one.id)!;
    const put = (key: string, ...args: (string | number | Buffer)[]) =>
      this.#link.command('HSET', this.#layout.key(fn, key), ...args);
    await this.#link.command('SET', this.#layout.key(fn, 'generation'), this.#generation);
    for (const { id, digest, createdAt, spec, batching, removedAt } of one.versions) {
      const v = versions.get(id)!;
      await put('versions', v, pack([digest, createdAt, JSON.stringify({ ...spec, source: [] })]));
      await put('sources', v, JSON.stringify(spec.source));
      await put('digests', digest, v);
      await put('facts', v, JSON.stringify({ digest, isolation: spec.isolation }));
      await put('batching', v, JSON.stringify(batching));
      if (removedAt !== null) await put('removed-versions', v, removedAt);
    }
    const { name, paused, createdAt, updatedAt, removedAt, staged, scaling } = one;
    const record = ['name', name, 'current', versions.get(one.currentVersionId) ?? 0, 'last', versions.size];
    await put('function', ...record, 'paused', paused ? 1 : 0, 'created', createdAt, 'updated', updatedAt);
    if (removedAt !== null) await put('function', 'removed', removedAt);
    if (staged !== null) {
      const v = versions.get(staged.versionId) ?? 0;
      await put('function', 'staged', v, 'staged-new', Number(staged.isNew));
    }
    if (scaling !== null) await put('function', 'scaling', JSON.stringify(scaling));
    const { callIds, batchIds } = this.#head!;
    await put('queue', 'batch', batchIds.last - batchIds.first + callIds.last - callIds.first + 2);
  }

  /** Arrivals rise with the numbers, as lists expect it, also where the source's clock was set back. */
  async #readStamp(sourceId: number): Promise<void> {
    const former = { tag: this.#head!.tag, id: sourceId };
    const callId = await resolveFormer(this.#link, this.#layout, former);
    const value = callId === null ? null : await storedValue(this.#at, callId);
    if (value !== null) this.#stamp = readCall(1, 1, value).stamp;
  }

  async addCalls(calls: readonly TransferCall[], output: (id: number) => Promise<Uint8Array>): Promise<void> {
    for (const [functionId, some] of Map.groupBy(calls, (call) => call.functionId))
      await this.#fetchOutputs(this.#functions.get(functionId)!.fn, some, output);
    const references = await this.#uploadPayloads(calls);
    const arriving = calls.map((call) => {
      this.#stamp = Math.max(this.#stamp + 1, call.arrivedAt * 1000);
      const { fn, versions } = this.#functions.get(call.functionId)!;
      const version = versions.get(call.versionId)!;
      const reference = references.get(call.id) ?? null;
      return { fn, call: arrivingCall(call, version, this.#numbers, this.#stamp, reference) };
    });
    for (const [fn, some] of Map.groupBy(arriving, (one) => one.fn)) {
      for (const { call } of some) {
        if (call.errors !== null)
          await this.#link.command(
            'HSET',
            this.#layout.key(fn, 'output', call.errors.record),
            'e',
            call.errors.text,
          );
      }
      const facts = pack(some.map(({ call }) => call.facts));
      const values = some.flatMap(({ call }) => [call.value, call.payload, call.parts]);
      await runTransfer(this.#at, 'transfer-calls', fn, Date.now(), [facts, ...values]);
    }
    // Of calls that had come before this step was done again.
    for (const { id, functionId } of calls) {
      const reference = references.get(id);
      if (reference !== undefined)
        this.#largeBytes!.giveUp(this.#functions.get(functionId)!.fn, Date.now(), reference);
    }
    const { tag } = this.#head!;
    const moved = calls.map(({ id, functionId }) => ({
      former: { tag, id },
      callId: callIdOf(this.#functions.get(functionId)!.fn, this.#numbers.call(id)),
    }));
    await addFormer(this.#link, this.#layout, moved);
    await this.#reach({ callId: calls.at(-1)!.id });
  }

  /** References by call, of those payloads that go to the bucket. */
  async #uploadPayloads(calls: readonly TransferCall[]): Promise<ReadonlyMap<number, string>> {
    const references = new Map<number, string>();
    for (const call of calls) {
      if (call.payload === null) continue;
      const { bytes } = payloadOf({ payload: call.payload });
      if (!this.#largeBytes!.isLarge(bytes)) continue;
      const { fn } = this.#functions.get(call.functionId)!;
      references.set(call.id, await this.#largeBytes!.put(fn, Date.now(), bytes));
    }
    return references;
  }

  async #fetchOutputs(
    fn: number,
    calls: readonly TransferCall[],
    output: (id: number) => Promise<Uint8Array>,
  ): Promise<void> {
    const wanted = new Set<number>();
    for (const { parts } of calls)
      for (const part of parts) if (part.state === 'ok') wanted.add(part.outputId);
    for (const id of wanted) {
      const record = this.#numbers.record(id);
      const key = this.#layout.key(fn, 'output', record);
      const known = await this.#link.command<(Buffer | null)[]>('HMGET', key, 'o', 's');
      if (known.some((field) => field !== null)) continue;
      const bytes = await output(id);
      if (this.#largeBytes!.isLarge(bytes)) await this.#uploadOutput(fn, record, bytes);
      else await this.#link.command('HSET', key, 'o', bytes);
    }
  }

  #uploadOutput(fn: number, record: number, bytes: Uint8Array): Promise<unknown> {
    return this.#largeBytes!.naming(fn, Date.now(), bytes, async (reference) => {
      const isNamed = await runTransfer<number>(this.#at, 'transfer-output', fn, Date.now(), [
        record,
        reference,
      ]);
      if (isNamed === 0) throw tooLong();
    });
  }

  async addBatches(batches: readonly TransferBatch[]): Promise<void> {
    for (const [functionId, some] of Map.groupBy(batches, (batch) => batch.functionId)) {
      const { fn, versions } = this.#functions.get(functionId)!;
      const list = some.map((batch) => [
        this.#numbers.record(batch.id),
        [
          versions.get(batch.versionId)!,
          REASONS.indexOf(batch.reason),
          MODES.indexOf(batch.mode),
          batch.attempts,
          batch.claims,
          batch.notBefore,
          batch.handlerMs,
          batch.slices.flatMap(({ callId, from, count }) => [this.#numbers.call(callId), from, count]),
        ] satisfies PackedBatch,
      ]);
      await runTransfer(this.#at, 'transfer-batches', fn, Date.now(), [pack(list)]);
    }
    await this.#reach({ batchId: batches.at(-1)!.id });
  }

  async addFormer(ids: readonly MovedId[]): Promise<void> {
    const { tag } = this.#head!;
    const pairs: MovedId[] = [];
    for (const { former, callId } of ids) {
      const here = await resolveFormer(this.#link, this.#layout, { tag, id: callId });
      if (here !== null) pairs.push({ former, callId: here });
    }
    await addFormer(this.#link, this.#layout, pairs);
  }

  async addDocuments(documents: readonly TransferDocument[]): Promise<void> {
    for (const document of documents)
      await takeDocument(this.#at, `${document.kind}/${document.key}`, document);
  }

  finish(): Promise<TransferCounts> {
    return countRedis(this.#at, 0);
  }

  async open(): Promise<void> {
    const mark = await this.#mark();
    const position = { ...mark.position, isFinished: true };
    await writeMark(this.#link, this.#layout, { ...mark, state: 'arrived', position });
  }

  async hasArrived(id: string): Promise<boolean> {
    const mark = await readMark(this.#link, this.#layout);
    return mark?.state === 'arrived' && mark.id === id;
  }

  async close(): Promise<void> {
    await Promise.all([this.#link.close(), this.#largeBytes?.close()]);
  }

  async #mark(): Promise<ArrivingMark> {
    const mark = await readMark(this.#link, this.#layout);
    if (mark !== null && 'position' in mark) return mark;
    throw new SluiceError('data_lost', `${this.place} was emptied while a migration filled it.`);
  }

  async #reach(reached: Partial<TransferPosition>): Promise<void> {
    const mark = await this.#mark();
    await writeMark(this.#link, this.#layout, { ...mark, position: { ...mark.position, ...reached } });
  }
}

/** @throws SluiceError `invalid_request` (address), `store_unavailable` */
export const openRedisTarget = (
  url: string,
  prefix: string,
  bucket: BucketOptions | null = null,
): TransferTarget => {
  checkPrefix(prefix);
  const link = new Link({ address: parseAddress(url), url, name: 'sluice-migrate' });
  return new RedisTarget(link, new Layout(prefix), withoutSecrets(url), bucket);
};

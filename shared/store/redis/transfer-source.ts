/**
 * Reads a store in Redis out. From `begin` on its generation is another one, in every slot, so that a process which still
 * serves it is refused by every script; leases end with that, at no cost to their rows.
 */
import { randomUUID } from 'node:crypto';
import { withoutSecrets } from '../../config/redaction.ts';
import { checkPrefix } from '../../config/redis-prefix.ts';
import type { Payload, RowError } from '../../domain/call.ts';
import type { Batching, FunctionSpec } from '../../domain/function.ts';
import type { Scaling } from '../../domain/scaling.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { tagOf } from '../../wire/call-id.ts';
import type { ApiKey } from '../ports/keys.ts';
import type { BucketOptions } from '../ports/server.ts';
import type {
  IdSpan,
  MovedId,
  TransferBatch,
  TransferCall,
  TransferDocument,
  TransferFunction,
  TransferHead,
  TransferKey,
  TransferPart,
  TransferSource,
  TransferVersion,
} from '../ports/transfer.ts';
import { leavingTo } from '../transfer-mark.ts';
import { parseAddress } from './address.ts';
import { unpackSlices } from './batch-packing.ts';
import { eachDocumentName, readDocument } from './documents.ts';
import { checkBucket, LargeBytes } from './large-bytes.ts';
import { batchIdOf, functionOfId, Layout, serialOfId, versionIdOf } from './layout.ts';
import { Link } from './link.ts';
import { readOutputBytes } from './output-reads.ts';
import {
  countsOf,
  isObject,
  MODES,
  PART_STATES,
  PART_WIDTH,
  plain,
  REASONS,
  readCall,
  unpack,
} from './packing.ts';
import { pairsOf } from './store-context.ts';
import { eachFormer } from './transfer-lineage.ts';
import { readMark, refuseServed, writeMark } from './transfer-mark.ts';
import {
  countRedis,
  functionNumbers,
  idempotencyOfCall,
  isMoved,
  openBatches,
  type PagedCall,
  type Place,
  pagedCalls,
  runTransfer,
  storedValue,
} from './transfer-pages.ts';
import { type PackedVersion, readSource } from './version-source.ts';

const FENCED = 'leaving:';
/** Ids here name their functions, so they lie far apart. */
const WIDE: IdSpan = { first: 1, last: Number.MAX_SAFE_INTEGER };
/** How long the versions of a removed function are kept elsewhere: as long as results are, unless that was set otherwise. */
const REMOVED_MS = 86_400_000;

class RedisSource implements TransferSource {
  readonly place: string;
  readonly #link: Link;
  readonly #bucket: BucketOptions | null;
  readonly #largeBytes: LargeBytes;
  readonly #layout: Layout;
  #generation = '';
  #begunAt = 0;
  #errors: { readonly id: number; readonly list: readonly RowError[] } | null = null;

  constructor(link: Link, layout: Layout, place: string, bucket: BucketOptions | null) {
    this.#bucket = bucket;
    // Nothing is written there, so that no generation is needed.
    this.#largeBytes = new LargeBytes({ link, layout, generation: '' }, bucket);
    this.#link = link;
    this.#layout = layout;
    this.place = place;
  }

  get #at(): Place {
    return { link: this.#link, layout: this.#layout, generation: this.#generation };
  }

  async begin({ now, to }: { readonly now: number; readonly to: string }): Promise<TransferHead | null> {
    const [link, layout] = [this.#link, this.#layout];
    await link.checkDatabase();
    await refuseServed(link, layout, this.place, now);
    await checkBucket(link, layout, this.#bucket);
    const found = await link.command<Buffer | null>('GET', layout.store('generation'));
    if (found === null) throw nothingThere(this.place);
    const mark = leavingTo(await readMark(link, layout), this.place, to) ?? {
      state: 'leaving' as const,
      id: randomUUID(),
      to,
      begunAt: now,
    };
    if (mark.state === 'left') return null;
    await writeMark(link, layout, mark);
    this.#begunAt = mark.begunAt;
    const original = String(found).replace(FENCED, '');
    await this.#setGeneration(FENCED + original);
    const keyCount = await link.command<Buffer | null>('GET', layout.store('api-key-count'));
    const last = await link.command<Buffer | null>('HGET', layout.store('document-revisions'), 'last');
    return {
      id: mark.id,
      tag: tagOf(original),
      place: this.place,
      functions: await this.#functions(),
      keys: await this.#keys(),
      nextKeyId: Number(keyCount ?? 0) + 1,
      lastRevision: Number(last ?? 0),
      callIds: WIDE,
      batchIds: WIDE,
    };
  }

  async #setGeneration(generation: string): Promise<void> {
    this.#generation = generation;
    const numbers = await functionNumbers(this.#at);
    const keys = [...numbers.values()].map((fn) => this.#layout.key(fn, 'generation'));
    await this.#link.command('SET', this.#layout.store('generation'), generation);
    await Promise.all(keys.map((key) => this.#link.command('SET', key, generation)));
  }

  async #functions(): Promise<TransferFunction[]> {
    const numbers = [...(await functionNumbers(this.#at))].sort(([, a], [, b]) => a - b);
    return Promise.all(numbers.map(([name, fn]) => this.#function(name, fn)));
  }

  async #function(name: string, fn: number): Promise<TransferFunction> {
    const reply = await runTransfer<Buffer[][]>(this.#at, 'function', fn, 0, []);
    const [record, packed, batchings, removed] = reply.map(pairsOf) as [
      Map<string, Buffer>,
      Map<string, Buffer>,
      Map<string, Buffer>,
      Map<string, Buffer>,
    ];
    const later = (text: Buffer | undefined): number | null =>
      text === undefined ? null : Number(text) + REMOVED_MS;
    const version = async ([serial, bytes]: [string, Buffer]): Promise<TransferVersion> => {
      const [digest, createdAt, spec] = unpack<PackedVersion>(bytes);
      const source = (await readSource(this.#at, fn, Number(serial))) ?? [];
      return {
        id: versionIdOf(fn, Number(serial)),
        digest,
        createdAt,
        spec: { ...(JSON.parse(spec) as FunctionSpec), source },
        batching: JSON.parse(String(batchings.get(serial))) as Batching,
        removedAt: later(removed.get(serial)),
      };
    };
    const versions = await Promise.all([...packed].map(version));
    const [staged, scaling] = [record.get('staged'), record.get('scaling')];
    return {
      id: fn,
      name,
      currentVersionId: versionIdOf(fn, Number(record.get('current'))),
      staged:
        staged === undefined
          ? null
          : {
              versionId: versionIdOf(fn, Number(staged)),
              isNew: String(record.get('staged-new')) === '1',
            },
      scaling: scaling === undefined ? null : (JSON.parse(String(scaling)) as Scaling),
      paused: String(record.get('paused')) === '1',
      createdAt: Number(record.get('created')),
      updatedAt: Number(record.get('updated')),
      removedAt: later(record.get('removed')),
      versions: versions.sort((a, b) => a.id - b.id),
    };
  }

  async #keys(): Promise<TransferKey[]> {
    const [link, layout] = [this.#link, this.#layout];
    const hashes = pairsOf(await link.command<Buffer[]>('HGETALL', layout.store('api-key-hashes')));
    const byId = new Map([...hashes].map(([hash, id]) => [String(id), hash]));
    const keys = pairsOf(await link.command<Buffer[]>('HGETALL', layout.store('api-keys')));
    return [...keys]
      .map(([id, text]) => ({
        ...(JSON.parse(String(text)) as Omit<ApiKey, 'id'>),
        id: Number(id),
        secretHash: byId.get(id)!,
      }))
      .sort((a, b) => a.id - b.id);
  }

  /** In the order of their arrival: ids of different functions do not tell it. */
  async *calls(after: number | null): AsyncGenerator<TransferCall> {
    const from = after === null ? null : await this.#stampOf(after);
    const numbers = [...(await functionNumbers(this.#at)).values()];
    const heads = await Promise.all(
      numbers.map(async (fn) => {
        const pages = pagedCalls(this.#at, fn, true);
        return { pages, next: await pages.next() };
      }),
    );
    for (;;) {
      const open = heads.filter(({ next }) => !next.done);
      if (open.length === 0) return;
      const first = open.reduce((a, b) => (isBefore(a.next.value!, b.next.value!) ? a : b));
      const call = first.next.value as PagedCall;
      first.next = await first.pages.next();
      const isThere = from !== null && !isBefore(from, call);
      if (!isThere && isMoved(call.stored, this.#begunAt)) yield await this.#call(call);
    }
  }

  async #stampOf(callId: number): Promise<Pick<PagedCall, 'stored' | 'fn' | 'n'>> {
    const value = await storedValue(this.#at, callId);
    if (value === null) throw nothingThere(`call ${callId} of ${this.place}`);
    const [fn, n] = [functionOfId(callId), serialOfId(callId)];
    return { fn, n, stored: readCall(fn, n, value) };
  }

  async #call(paged: PagedCall): Promise<TransferCall> {
    const { fn, stored } = paged;
    const { lane, priority, schemaKey, metadata, traceparent } = stored.extra;
    const { id, versionId, apiKeyId, rows, bytes, status, arrivedAt, deadlineAt, handlerMs } = stored;
    const isOver = stored.finishedAt !== null;
    return {
      id,
      functionId: fn,
      versionId,
      apiKeyId,
      lane,
      priority,
      schemaKey,
      rows,
      bytes,
      status,
      counts: countsOf(stored),
      arrivedAt,
      startedAt: isOver ? stored.startedAt : stored.ranAt,
      finishedAt: stored.finishedAt,
      deadlineAt,
      expiresAt: stored.expiresAt,
      handlerMs,
      metadata,
      traceparent,
      idempotency: await idempotencyOfCall(this.#at, paged),
      payload: isOver ? null : await this.#payload(paged),
      sealedRows: isOver ? rows : stored.sealed,
      parts: await this.#parts(paged, isOver),
    };
  }

  async #payload({ fn, n, stored }: PagedCall): Promise<Payload> {
    const bytes =
      stored.kind < 2
        ? stored.payload
        : isObject(stored.kind)
          ? await this.#largeBytes.read(String(stored.payload))
          : await this.#link.command<Buffer | null>('GET', this.#layout.key(fn, 'payload', n));
    if (bytes === null) throw nothingThere(`the payload of call ${stored.id}`);
    return stored.kind % 2 === 0
      ? { kind: 'json', text: bytes.toString() }
      : { kind: 'arrow', bytes: plain(bytes) };
  }

  /** Rows of a finished call that no part names were cancelled or expired with it. */
  async #parts({ fn, stored, parts }: PagedCall, isOver: boolean): Promise<TransferPart[]> {
    const found: TransferPart[] = [];
    const fill = PART_STATES[stored.fill] as 'cancelled' | 'expired';
    let next = 0;
    const fillUpTo = (row: number): void => {
      if (isOver && row > next) found.push({ state: fill, from: next, count: row - next });
    };
    for (let at = 0; at < parts.length; at += PART_WIDTH) {
      const [code, from, count, record, place] = parts.slice(at, at + PART_WIDTH) as [
        number,
        number,
        number,
        number,
        number,
      ];
      fillUpTo(from);
      next = from + count;
      const state = PART_STATES[code]!;
      const outputId = batchIdOf(fn, record);
      if (state === 'ok') found.push({ state, from, count, outputId, outputRow: place });
      else if (state === 'failed')
        found.push({ state, from, count, error: await this.#error(outputId, place) });
      else found.push({ state: state as 'cancelled' | 'expired', from, count });
    }
    fillUpTo(stored.rows);
    return found;
  }

  async #error(id: number, place: number): Promise<RowError> {
    if (this.#errors?.id !== id) {
      const text = await this.#record(id, 'e');
      if (text === null) throw nothingThere(`the errors of batch ${id}`);
      this.#errors = { id, list: JSON.parse(String(text)) as RowError[] };
    }
    return this.#errors.list[place] ?? { code: 'internal', message: `the error of batch ${id} is not there` };
  }

  #record(id: number, field: 'o' | 'e'): Promise<Buffer | null> {
    return this.#link.command('HGET', this.#layout.key(functionOfId(id), 'output', serialOfId(id)), field);
  }

  async *batches(after: number | null): AsyncGenerator<TransferBatch> {
    for (const fn of [...(await functionNumbers(this.#at)).values()].sort((a, b) => a - b)) {
      for (const { m, fields } of await openBatches(this.#at, fn)) {
        const id = batchIdOf(fn, m);
        if (id <= (after ?? 0)) continue;
        const [version, reason, mode, attempts, claims, notBefore, handlerMs, slices] = fields;
        yield {
          id,
          functionId: fn,
          versionId: versionIdOf(fn, version),
          slices: unpackSlices(fn, slices),
          reason: REASONS[reason]!,
          mode: MODES[mode]!,
          attempts,
          claims,
          notBefore,
          handlerMs,
        };
      }
    }
  }

  async output(id: number): Promise<Uint8Array> {
    const places = { link: this.#link, layout: this.#layout, largeBytes: this.#largeBytes };
    const bytes = await readOutputBytes(places, functionOfId(id), serialOfId(id));
    if (bytes === null) throw nothingThere(`the output of batch ${id}`);
    return plain(bytes);
  }

  async *documents(): AsyncGenerator<TransferDocument> {
    for await (const name of eachDocumentName(this.#at)) {
      const found = await readDocument(this.#at, name);
      if (found === undefined) throw nothingThere(`the document ${name}`);
      const [kind, ...key] = name.split('/') as [string, ...string[]];
      yield { kind, key: key.join('/'), ...found };
    }
  }

  former(): AsyncIterable<MovedId> {
    return eachFormer(this.#link, this.#layout);
  }

  counts() {
    return countRedis(this.#at, this.#begunAt);
  }

  async leave(): Promise<void> {
    const mark = await readMark(this.#link, this.#layout);
    if (mark?.state === 'leaving') await writeMark(this.#link, this.#layout, { ...mark, state: 'left' });
  }

  async abandon(): Promise<boolean> {
    const mark = await readMark(this.#link, this.#layout);
    if (mark?.state !== 'leaving') return false;
    await this.#setGeneration(this.#generation.replace(FENCED, ''));
    await writeMark(this.#link, this.#layout, null);
    return true;
  }

  async close(): Promise<void> {
    await Promise.all([this.#link.close(), this.#largeBytes.close()]);
  }
}

/** By the server's clock at the admission; numbers decide between equals. */
const isBefore = (
  a: Pick<PagedCall, 'stored' | 'fn' | 'n'>,
  b: Pick<PagedCall, 'stored' | 'fn' | 'n'>,
): boolean =>
  a.stored.stamp - b.stored.stamp < 0 || (a.stored.stamp === b.stored.stamp && a.stored.id < b.stored.id);

const nothingThere = (what: string): SluiceError =>
  new SluiceError('internal', `There is nothing at ${what}.`, { fix: 'Check --from and --redis-prefix.' });

/** @throws SluiceError `invalid_request` (address), `store_unavailable` */
export const openRedisSource = (
  url: string,
  prefix: string,
  bucket: BucketOptions | null = null,
): TransferSource => {
  checkPrefix(prefix);
  const link = new Link({ address: parseAddress(url), url, name: 'sluice-migrate' });
  return new RedisSource(link, new Layout(prefix), withoutSecrets(url), bucket);
};

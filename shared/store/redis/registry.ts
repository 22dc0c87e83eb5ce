/** The registry port on Redis: a function's record and versions lie in its slot, only its name's number outside of it. */
import { randomUUID } from 'node:crypto';
import type {
  Batching,
  FunctionRecord,
  FunctionSpec,
  FunctionVersion,
  ReplicaReport,
  SourceFile,
} from '../../domain/function.ts';
import type { Scaling } from '../../domain/scaling.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { checkSchemas, functionBusy, noFunction, noVersion, targetStaged } from '../function-refusals.ts';
import type { DeployAnswer, FunctionLoad, FunctionUpdate, LogLine, Registry } from '../ports/registry.ts';
import { digestOf } from '../spec-digest.ts';
import type { Directory } from './directory.ts';
import {
  FUNCTIONS_MAX,
  functionOfVersion,
  isFunctionNumber,
  serialOfVersion,
  VERSIONS_MAX,
  versionIdOf,
} from './layout.ts';
import { unpack } from './packing.ts';
import { type QueueContext, runScript } from './queue-context.ts';
import { pairsOf, runStoreScript } from './store-context.ts';
import { type PackedVersion, readSource } from './version-source.ts';

/** Log lines kept of a function. */
const LOG_LINES_MAX = 1000;
/** Of one line: a handler that prints a table must not fill the server. */
const LOG_CHARACTERS_MAX = 4096;
/** Waiting calls that one script looks at. */
const STEP_CALLS = 500;
/** Reading scripts use no time. */
const NO_TIME = 0;

type Versions = {
  readonly shown: readonly FunctionVersion[];
  /** The JSON of each version's batching, as it is stored. */
  readonly batching: ReadonlyMap<string, Buffer>;
};
type Deployment = Parameters<Registry['deploy']>[0];
type RetireQuery = Parameters<Registry['retire']>[0];
/** Of scripts/load.lua. */
type LoadReply = [
  waitingRows: number,
  sealedRows: number,
  waitingCalls: number,
  oldestAt: number,
  liveCalls: number,
  sealedVersions: readonly Buffer[],
  oldestVersion: number,
  endedRows: readonly number[],
];
type Found = { readonly record: FunctionRecord; readonly versions: Versions };

const versionsOf = (
  fn: number,
  [, versions, batching, removed]: readonly (readonly Buffer[])[],
): Versions => {
  const [batchings, gone] = [pairsOf(batching!), pairsOf(removed!)];
  const shown: FunctionVersion[] = [];
  for (const [serial, packed] of pairsOf(versions!)) {
    if (gone.has(serial)) continue;
    const [digest, createdAt, text] = unpack<PackedVersion>(packed);
    const spec = JSON.parse(text) as FunctionSpec;
    const live = JSON.parse(String(batchings.get(serial))) as Batching;
    // An earlier Sluice kept the source in the spec.
    const light = { ...spec, source: [], batching: live };
    shown.push({ id: versionIdOf(fn, Number(serial)), digest, createdAt, spec: light });
  }
  // Numbers go round.
  return { shown: shown.sort((a, b) => b.createdAt - a.createdAt || b.id - a.id), batching: batchings };
};

export class RedisRegistry implements Registry {
  readonly #context: QueueContext;
  readonly #directory: Directory;
  readonly #told: string;

  constructor(context: QueueContext, directory: Directory) {
    this.#context = context;
    this.#directory = directory;
    this.#told = context.layout.store('functions-changed');
  }

  async deploy(query: Deployment): Promise<DeployAnswer> {
    const { spec, isStaged = false } = query;
    const named = await this.#directory.anyNumber(spec.name);
    const known = named ?? (await this.#newNumber());
    let fn = known;
    let [version, created] = await this.#deployTo(fn, query);
    // Also one that had a name: what was left of a removed function may have gone meanwhile, with its name.
    fn = await this.#name(spec.name, fn, '');
    // Another has deployed the same name for the first time at the same moment.
    if (fn !== known) [version, created] = await this.#deployTo(fn, query);
    const found = await this.#read(fn);
    if (found === undefined) throw noFunction(spec.name);
    if (isStaged) return { record: found.record, created: created === 1 };
    const id = versionIdOf(fn, version);
    const current = found.record.versions.find((one) => one.id === id) ?? found.record.current;
    return { record: { ...found.record, current }, created: created === 1 };
  }

  async settleStaged(query: Parameters<Registry['settleStaged']>[0]): Promise<boolean> {
    const { now, name, digest, end } = query;
    const fn = await this.#directory.anyNumber(name);
    if (fn === undefined) return false;
    const args = [digest, end, this.#told];
    return (await runScript<number>(this.#context, 'settle-staged', fn, now, args)) === 1;
  }

  async functions(): Promise<readonly FunctionRecord[]> {
    const numbers = [...(await this.#directory.numbers())].sort((a, b) => a - b);
    const found = await Promise.all(numbers.map((fn) => this.#read(fn)));
    return found.flatMap((one) => (one === undefined ? [] : [one.record]));
  }

  async function(name: string): Promise<FunctionRecord | undefined> {
    const fn = await this.#directory.anyNumber(name);
    return fn === undefined ? undefined : (await this.#read(fn))?.record;
  }

  async source(versionId: number): Promise<readonly SourceFile[] | undefined> {
    const fn = functionOfVersion(versionId);
    if (!isFunctionNumber(fn)) return undefined;
    return readSource(this.#context, fn, serialOfVersion(versionId));
  }

  async update(query: {
    readonly now: number;
    readonly name: string;
    readonly update: FunctionUpdate;
  }): Promise<FunctionRecord | undefined> {
    const fn = await this.#directory.anyNumber(query.name);
    if (fn === undefined) return undefined;
    const { paused, batching, scaling } = query.update;
    for (;;) {
      const found = await this.#read(fn);
      if (found === undefined) return undefined;
      const { current } = found.record;
      const serial = serialOfVersion(current.id);
      const before = batching === undefined ? '' : found.versions.batching.get(String(serial))!;
      const after = batching === undefined ? '' : JSON.stringify({ ...current.spec.batching, ...batching });
      const pause = paused === undefined ? '' : Number(paused);
      const scales = scaling === undefined ? '' : JSON.stringify(scaling);
      const args = [pause, before, after, serial, this.#told, scales];
      const done = await runScript<number>(this.#context, 'update', fn, query.now, args);
      if (done === 0) return undefined;
      if (done === 1) return (await this.#read(fn))?.record;
    }
  }

  async remove(name: string): Promise<boolean> {
    const fn = await this.#directory.anyNumber(name);
    if (fn === undefined) return false;
    // The port gives no time: nothing but the end of the versions hangs on it.
    const left = await runScript<number>(this.#context, 'remove', fn, Date.now(), [this.#told]);
    if (left >= 0) throw functionBusy(name, left);
    return left === -1;
  }

  async repin(query: {
    readonly now: number;
    readonly name: string;
    readonly from: string;
    readonly to: string;
  }): Promise<number> {
    const found = await this.function(query.name);
    if (found === undefined) throw noFunction(query.name);
    const [from, to] = [versionOf(found, query.from), versionOf(found, query.to)];
    checkSchemas(found.name, from, to);
    if (from === to) return 0;
    if (found.staged?.digest === query.to) throw targetStaged(found.name, query.to);
    const serials = [serialOfVersion(from.id), serialOfVersion(to.id)];
    const [last] = await runScript<number[]>(this.#context, 'call', found.id, query.now, []);
    let moved = 0;
    for (let after = 0; ; ) {
      const args = [...serials, after, last!, STEP_CALLS];
      const [calls, next] = await runScript<number[]>(this.#context, 'move', found.id, query.now, args);
      moved += calls!;
      if (next === 0) return moved;
      after = next!;
    }
  }

  async retire({ now, name, digests, unusedMs }: RetireQuery): Promise<readonly string[]> {
    const fn = await this.#directory.anyNumber(name);
    if (fn === undefined || digests.length === 0) return [];
    const look = `look ${randomUUID()}`;
    const ask = (waiting: string) => {
      const args = [unusedMs, this.#told, JSON.stringify(digests), waiting, look];
      return runScript<(Buffer | number)[]>(this.#context, 'retire', fn, now, args);
    };
    const first = await ask('');
    const dropped = first[0] === 1 ? await ask(JSON.stringify(await this.#waitingVersions(fn))) : first;
    return dropped.map(String);
  }

  /** What begins to wait while it looks takes its version's note away. */
  async #waitingVersions(fn: number): Promise<readonly number[]> {
    const found = new Set<number>();
    for (let after = 0; ; ) {
      const args = [after, STEP_CALLS];
      const page = await runScript<number[]>(this.#context, 'waiting-versions', fn, NO_TIME, args);
      const [next, ...versions] = page;
      for (const version of versions) found.add(version);
      if (next === 0) return [...found];
      after = next!;
    }
  }

  async report({ now, report }: { readonly now: number; readonly report: ReplicaReport }): Promise<void> {
    const facts = await this.#context.functions.version(report.versionId);
    if (facts === undefined) return;
    const { versionId, workerId, until } = report;
    const fn = await this.#directory.anyNumber(facts.functionName);
    if (fn === undefined) return;
    const args = [serialOfVersion(versionId), workerId, until, JSON.stringify(report)];
    await runScript(this.#context, 'report', fn, now, args);
  }

  async reports({ now, name }: { readonly now: number; readonly name: string }): Promise<ReplicaReport[]> {
    const fn = await this.#directory.number(name);
    if (fn === undefined) return [];
    const { link, layout } = this.#context;
    const kept = pairsOf(await link.command<Buffer[]>('HGETALL', layout.key(fn, 'reports')));
    return [...kept.values()].flatMap((packed) => {
      const [until, text] = unpack<[number, string]>(packed);
      return until > now ? [JSON.parse(text) as ReplicaReport] : [];
    });
  }

  async load(): Promise<readonly FunctionLoad[]> {
    const names = [...(await this.#directory.names())].sort(([, a], [, b]) => a - b);
    const loads = await Promise.all(names.map(([name, fn]) => this.#readLoad(name, fn)));
    return loads.filter((load) => load !== undefined);
  }

  async loadOf(name: string): Promise<FunctionLoad | undefined> {
    const fn = await this.#directory.anyNumber(name);
    return fn === undefined ? undefined : this.#readLoad(name, fn);
  }

  async appendLogs(lines: readonly LogLine[]): Promise<void> {
    const { link, layout } = this.#context;
    for (const [name, some] of Map.groupBy(lines, ({ functionName }) => functionName)) {
      const fn = await this.#directory.number(name);
      if (fn === undefined) continue;
      const texts = some
        .slice(-LOG_LINES_MAX)
        .map((line) => JSON.stringify({ ...line, text: line.text.slice(0, LOG_CHARACTERS_MAX) }));
      await Promise.all([
        link.command('RPUSH', layout.key(fn, 'logs'), ...texts),
        link.command('LTRIM', layout.key(fn, 'logs'), -LOG_LINES_MAX, -1),
      ]);
    }
  }

  async logs({ name, limit }: { readonly name: string; readonly limit: number }): Promise<LogLine[]> {
    const count = Math.min(limit, LOG_LINES_MAX);
    const fn = count <= 0 ? undefined : await this.#directory.number(name);
    if (fn === undefined) return [];
    const { link, layout } = this.#context;
    const texts = await link.command<Buffer[]>('LRANGE', layout.key(fn, 'logs'), -count, -1);
    return texts.map((text) => JSON.parse(String(text)) as LogLine);
  }

  /** Drops what is past its time of functions and versions that were removed; answers the removed ones that are left. */
  async forget(now: number): Promise<readonly number[]> {
    const removed: number[] = [];
    for (const [name, fn] of await this.#directory.names()) {
      const left = await runScript<number>(this.#context, 'forget', fn, now, []);
      if (left === 2) removed.push(fn);
      if (left === 1) await this.#takeNameAway(name, fn);
    }
    return removed;
  }

  /** Another process that knew the number may have deployed it anew meanwhile: then it keeps its name. */
  async #takeNameAway(name: string, fn: number): Promise<void> {
    await this.#name(name, '', fn);
    if ((await this.#read(fn)) !== undefined) await this.#name(name, fn, '');
  }

  /** The number that the name has then; see scripts/name-function.lua. */
  #name(name: string, fn: number | '', lost: number | ''): Promise<number> {
    const args = [name, fn, lost, this.#told];
    return runStoreScript<number>(this.#context, 'name-function', ['functions'], args);
  }

  async #readLoad(functionName: string, fn: number): Promise<FunctionLoad | undefined> {
    const { link, layout } = this.#context;
    const [removed, reply] = await Promise.all([
      link.command<number>('HEXISTS', layout.key(fn, 'function'), 'removed'),
      runScript<LoadReply>(this.#context, 'load', fn, NO_TIME, []),
    ]);
    if (removed === 1) return undefined;
    const [waitingRows, sealedRows, waitingCalls, oldest, , serials, v, ended] = reply;
    const sealedVersions = serials.map((serial) => versionIdOf(fn, Number(serial)));
    const [oldestAt, oldestVersionId] = v === 0 ? [null, null] : [oldest, versionIdOf(fn, v)];
    const [ok, failed, cancelled, expired] = ended as [number, number, number, number];
    const endedRows = { ok, failed, cancelled, expired };
    const rows = { waitingRows, sealedRows, waitingCalls, endedRows };
    return { functionName, ...rows, oldestAt, oldestVersionId, sealedVersions };
  }

  /** A number whose slot is empty. Slots of a store that was lost in part may still hold something. */
  async #newNumber(): Promise<number> {
    const { link, layout, generation } = this.#context;
    for (;;) {
      const fn = await link.command<number>('INCR', layout.store('function-count'));
      if (fn > FUNCTIONS_MAX) throw tooManyFunctions();
      const isOurs = await link.command<Buffer | null>('SET', layout.key(fn, 'generation'), generation, 'NX');
      if (isOurs !== null) return fn;
    }
  }

  #deployTo(fn: number, query: Deployment): Promise<[version: number, created: number]> {
    const { now, spec, isStaged = false, scaling } = query;
    const digest = digestOf(spec);
    const facts = JSON.stringify({ digest, isolation: spec.isolation });
    const texts = [JSON.stringify({ ...spec, source: [] }), JSON.stringify(spec.batching), facts];
    const scales = scaling === undefined ? '-' : scaling === null ? '' : JSON.stringify(scaling);
    const args = [
      spec.name,
      digest,
      ...texts,
      this.#told,
      VERSIONS_MAX,
      Number(isStaged),
      scales,
      JSON.stringify(spec.source),
    ];
    return runScript(this.#context, 'deploy', fn, now, args);
  }

  async #read(fn: number): Promise<Found | undefined> {
    const reply = await runScript<Buffer[][]>(this.#context, 'function', fn, NO_TIME, []);
    const record = pairsOf(reply[0]!);
    const text = (member: string): string => String(record.get(member) ?? '');
    if (!record.has('name') || record.has('removed')) return undefined;
    const versions = versionsOf(fn, reply);
    const currentId = versionIdOf(fn, Number(text('current')));
    const current = versions.shown.find(({ id }) => id === currentId);
    const stagedId = record.has('staged') ? versionIdOf(fn, Number(text('staged'))) : null;
    if (current === undefined) return undefined;
    return {
      versions,
      record: {
        id: fn,
        name: text('name'),
        current,
        versions: versions.shown,
        staged: versions.shown.find(({ id }) => id === stagedId) ?? null,
        scaling: record.has('scaling') ? (JSON.parse(text('scaling')) as Scaling) : null,
        paused: text('paused') === '1',
        createdAt: Number(text('created')),
        updatedAt: Number(text('updated')),
      },
    };
  }
}

const tooManyFunctions = (): SluiceError =>
  new SluiceError(
    'invalid_function',
    `This store has had ${FUNCTIONS_MAX} function names, and no more can be numbered; deploy under a name that it has, or serve another --redis-prefix.`,
  );

const versionOf = ({ name, versions }: FunctionRecord, digest: string): FunctionVersion => {
  const found = versions.find((version) => version.digest === digest);
  if (found !== undefined) return found;
  throw noVersion(name, digest);
};

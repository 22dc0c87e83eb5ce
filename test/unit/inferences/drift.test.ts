/** Drift figures of real Parquet files on real stores, computed by the thread that the server uses. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { findDrift, noteFigures, setDrift } from '../../../services/inferences/drift-records.ts';
import { DriftRounds, hastenDrift } from '../../../services/inferences/drift-rounds.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import type { ColumnDrift, DriftFigures } from '../../../shared/domain/inference.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { type ArtifactsOptions, openArtifacts } from '../../../shared/store/artifacts/index.ts';
import type { StoreServer } from '../../../shared/store/ports/server.ts';
import { type InferenceRows, putInferenceFile } from '../../support/inference-files.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const T0 = Date.UTC(2026, 10, 1);
const REFERENCE = { from: T0, until: T0 + HOUR_MS };
/** Long after the reference, which changes no more. */
const NOW = T0 + 20 * HOUR_MS;
const SETTINGS = { reference: REFERENCE, windowMs: HOUR_MS };

const field = (name: string, type: TypeJson): FieldJson => ({ name, type, nullable: true });

/** Spread evenly over 0 to 1, in no order, the same each time. */
const evenly = (row: number, step = 0.618033988749895): number => (row * step) % 1;

const INPUTS = [
  field('moved', 'float64'),
  field('stays', 'float64'),
  field('whole', 'int64'),
  field('at', { timestamp: 'us', tz: null }),
  field('price', { decimal: [10, 2], bits: 128 }),
  field('city', 'utf8'),
  field('word', { dictionary: 'utf8', index: 'int32', ordered: false }),
  field('is_new', 'bool'),
  field('embedding', { fixed_size_list: field('item', 'float32'), size: 4 }),
  field('tokens', { list: field('item', 'int32') }),
  field('gaps', 'float64'),
  field('image', 'binary'),
  field('words', { list: field('item', 'utf8') }),
];

const OUTPUT = { struct: [field('price', 'float64'), field('label', 'utf8')] };

/** `shift` 0: as the reference; 1: every second column has moved. */
const inputOf = (row: number, shift: number): object => ({
  moved: evenly(row) + shift / 2,
  stays: evenly(row),
  whole: Math.floor(10 * evenly(row, 0.41421356)) + 5 * shift,
  at: new Date(T0 + evenly(row) * 1e9),
  price: (evenly(row, 0.7320508) + shift).toFixed(2),
  city: evenly(row) < 0.5 ? 'Bern' : 'Basel',
  word: evenly(row) < 0.5 + 0.4 * shift ? 'a' : 'b',
  is_new: evenly(row) < 0.3,
  embedding: [evenly(row) * (1 + shift), 0, 0, 1],
  tokens: row % 7 === 0 ? null : [3, 4, Math.floor(evenly(row) * 10)],
  gaps: evenly(row) < 0.1 + 0.5 * shift ? null : evenly(row, 0.236067977),
  image: new Uint8Array([row & 255]),
  words: ['x'],
});

const SHIFTED = [
  ...['input.embedding', 'input.gaps', 'input.moved', 'input.price', 'input.whole', 'input.word'],
  'output.price',
];
const UNSHIFTED = ['input.at', 'input.city', 'input.is_new', 'input.stays', 'input.tokens', 'output.label'];
const WITHOUT_ORDER = ['input.city', 'input.is_new', 'input.word', 'output.label'];

const rowsOf = (group: string, from: number, rows: number, shift: number): InferenceRows => ({
  ...{ group, inputs: INPUTS, output: OUTPUT },
  times: Array.from({ length: rows }, (_, row) => from + row),
  input: Array.from({ length: rows }, (_, row) => inputOf(row, shift)),
  outputs: Array.from({ length: rows }, (_, row) =>
    row % 10 === 0 ? null : { price: evenly(row) * (1 + shift), label: row % 3 === 0 ? 'x' : 'y' },
  ),
});

class Rig {
  readonly #directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-drift-'));
  readonly #server: StoreServer;
  readonly #store;
  readonly #options: ArtifactsOptions;
  readonly #artifacts;
  readonly #rounds: DriftRounds[] = [];
  now = NOW;

  constructor(server: StoreServer) {
    this.#server = server;
    this.#store = server.connect();
    this.#options = { kind: 'directory', directory: this.#directory, reserveBytes: 0 };
    this.#artifacts = openArtifacts(this.#options);
  }

  get documents() {
    return this.#store.documents;
  }

  process(): DriftRounds {
    const rounds = new DriftRounds({
      ...{ documents: this.documents, artifacts: this.#options, log: silentLog() },
      wall: () => this.now,
    });
    this.#rounds.push(rounds);
    return rounds;
  }

  async group(name: string, settings = SETTINGS): Promise<void> {
    await this.documents.put({ kind: 'scaling-group', key: name, revision: null, value: { name } });
    await setDrift(this.documents, name, settings);
  }

  file(rows: InferenceRows, bytes?: Uint8Array): Promise<string> {
    return putInferenceFile({ documents: this.documents, artifacts: this.#artifacts }, rows, bytes);
  }

  async forget(key: string): Promise<void> {
    const { revision } = (await this.documents.get('inference-file', key))!;
    await this.documents.remove({ kind: 'inference-file', key, revision });
  }

  async figures(group: string): Promise<DriftFigures | null | undefined> {
    return (await findDrift(this.documents, group))?.figures;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const rounds of this.#rounds) await rounds.stop();
    await this.#artifacts.close();
    await this.#store.close();
    await this.#server.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const byName = (columns: readonly ColumnDrift[]): Record<string, ColumnDrift> =>
  Object.fromEntries(columns.map((one) => [one.column, one]));

onEveryOpenedStore((open) => {
  const compared = async (): Promise<Rig> => {
    const rig = new Rig(await open());
    await rig.group('g');
    await rig.file(rowsOf('g', T0, 2000, 0));
    return rig;
  };

  it('columns that moved are told from columns that stayed, of every type', async () => {
    await using rig = await compared();
    await rig.file(rowsOf('g', NOW - MINUTE_MS, 1500, 1));
    expect(await rig.process().round()).toBe(1);
    const { columns, ...rest } = (await rig.figures('g'))!;
    expect(rest).toEqual({ at: NOW, referenceRows: 2000, windowRows: 1500, reason: null });
    expect(columns.map(({ column }) => column)).toEqual([...SHIFTED, ...UNSHIFTED].sort());
    const found = byName(columns);
    for (const name of SHIFTED) expect(found[name]!.psi, name).toBeGreaterThan(0.2);
    for (const name of UNSHIFTED) expect(found[name]!.psi, name).toBeLessThan(0.1);
    expect(columns.filter(({ ks }) => ks === null).map(({ column }) => column)).toEqual(WITHOUT_ORDER);
    expect(found['input.moved']!.ks).toBeCloseTo(0.5, 1);
    expect(found['input.stays']!.ks).toBeLessThan(0.02);
  });

  it('only rows of the two time ranges are compared', async () => {
    await using rig = await compared();
    // Half of them end beyond the reference, and another half begins before the window.
    await rig.file(rowsOf('g', REFERENCE.until - 500, 1000, 0));
    await rig.file(rowsOf('g', NOW - HOUR_MS - 250, 500, 1));
    await rig.file(rowsOf('other', NOW - MINUTE_MS, 500, 1));
    await rig.process().round();
    expect(await rig.figures('g')).toMatchObject({ referenceRows: 2500, windowRows: 250, reason: null });
  });

  it('a side without rows has a reason, and no figures', async () => {
    await using rig = await compared();
    await rig.process().round();
    expect(await rig.figures('g')).toEqual({
      ...{ at: NOW, referenceRows: 2000, windowRows: 0, columns: [] },
      reason: 'There are no sampled rows in the window.',
    });
  });

  it('a file that cannot be read hurts neither its group nor another one', async () => {
    await using rig = await compared();
    for (const group of ['bad', 'half']) await rig.group(group);
    const junk = new Uint8Array(5000).fill(7);
    await rig.file(rowsOf('bad', T0, 10, 0), junk);
    await rig.file(rowsOf('half', T0, 10, 0), junk);
    for (const group of ['bad', 'half', 'g']) await rig.file(rowsOf(group, NOW - MINUTE_MS, 100, 0));
    await rig.file(rowsOf('half', T0 + 5, 100, 0));
    const process = rig.process();
    expect(await process.round()).toBe(3);
    expect((await rig.figures('bad'))!.reason).toMatch(
      /no sampled rows in the reference. 1 files cannot be read, the first of them sha256:/,
    );
    for (const group of ['half', 'g']) expect((await rig.figures(group))!.reason, group).toBeNull();
  });

  it('one process at a time has the turn, and a minute later another one may', async () => {
    await using rig = await compared();
    const [one, two] = [rig.process(), rig.process()];
    const taken = await Promise.all([one.round(), two.round()]);
    expect(taken.toSorted()).toEqual([1, null]);
    expect(await one.round()).toBeNull();
    rig.now += MINUTE_MS;
    expect(await two.round()).toBe(1);
    expect((await rig.figures('g'))!.at).toBe(rig.now);
  });

  it('a clock that was ahead and was set back keeps nobody from computing', async () => {
    await using rig = await compared();
    rig.now = NOW + 400 * 24 * HOUR_MS;
    const ahead = rig.process();
    expect(await ahead.round()).toBe(1);
    // As one that died in its turn leaves it.
    const turn = (await rig.documents.get('sweep', 'drift'))!;
    const value = { ...(turn.value as object), until: rig.now + MINUTE_MS };
    await rig.documents.put({ kind: 'sweep', key: 'drift', revision: turn.revision, value });
    rig.now = NOW;
    expect(await rig.process().round()).toBe(1);
    expect((await rig.figures('g'))!.at).toBe(NOW);
  });

  it('new settings are computed at the next look, and young figures not again', async () => {
    await using rig = await compared();
    const process = rig.process();
    await process.round();
    await rig.group('new');
    rig.now += 1000;
    expect(await process.round()).toBeNull();
    await hastenDrift(rig.documents);
    expect(await process.round()).toBe(1);
    expect([(await rig.figures('g'))!.at, (await rig.figures('new'))!.at]).toEqual([NOW, NOW + 1000]);
    await setDrift(rig.documents, 'g', { ...SETTINGS, windowMs: 2 * HOUR_MS });
    expect(await rig.figures('g')).toBeNull();
  });

  it('figures of settings that changed meanwhile are dropped', async () => {
    await using rig = await compared();
    await rig.process().round();
    const figures = (await rig.figures('g'))!;
    const changed = { ...SETTINGS, windowMs: 2 * HOUR_MS };
    await setDrift(rig.documents, 'g', changed);
    expect(await noteFigures(rig.documents, { group: 'g', settings: SETTINGS }, figures)).toBe(false);
    expect(await rig.figures('g')).toBeNull();
    expect(await noteFigures(rig.documents, { group: 'gone', settings: SETTINGS }, figures)).toBe(false);
    expect(await rig.figures('gone')).toBeUndefined();
  });

  it('a record goes with its group', async () => {
    await using rig = await compared();
    await setDrift(rig.documents, 'gone', SETTINGS);
    expect(await rig.process().round()).toBe(1);
    expect(await rig.figures('gone')).toBeUndefined();
    expect(await rig.figures('g')).not.toBeNull();
  });

  it('a reference that changes no more is read once, until its thread ends', async () => {
    await using rig = await compared();
    const key = await rig.file(rowsOf('g', T0 + 5000, 100, 0));
    const [one, two] = [rig.process(), rig.process()];
    await one.round();
    await rig.forget(key);
    rig.now += MINUTE_MS;
    await one.round();
    expect(await rig.figures('g')).toMatchObject({ at: rig.now, referenceRows: 2100 });
    rig.now += MINUTE_MS;
    await two.round();
    expect(await rig.figures('g')).toMatchObject({ at: rig.now, referenceRows: 2000 });
  });

  it('a reference whose rows may still be on their way is read again', async () => {
    await using rig = await compared();
    rig.now = REFERENCE.until + MINUTE_MS;
    const process = rig.process();
    await process.round();
    await rig.file(rowsOf('g', T0 + 5000, 100, 0));
    rig.now += MINUTE_MS;
    await process.round();
    expect(await rig.figures('g')).toMatchObject({ referenceRows: 2100 });
  });

  it('a stop in a round ends it, and notes nothing', async () => {
    await using rig = await compared();
    const process = rig.process();
    const [computed] = await Promise.all([process.round(), process.stop(), process.stop()]);
    expect(computed).toBe(0);
    expect(await rig.figures('g')).toBeNull();
    await process.start();
    await rig.process().stop();
  });
});

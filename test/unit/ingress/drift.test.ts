/** Drift over HTTP: what is refused and why, and the metrics of the last figures. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noteFigures } from '../../../services/inferences/drift-records.ts';
import { type InferenceFile, inferenceFileKey } from '../../../shared/domain/inference.ts';
import { DEPLOYMENT, REGISTRATION } from '../../support/model-registration.ts';
import { type Answer, type Rig, startRig } from './rig.ts';

const T0 = Date.UTC(2026, 9, 1);
const reference = { from: '2026-10-01T00:00:00Z', until: '2026-10-02T02:00:00+02:00' };
const BODY = { reference, window_ms: 3_600_000 };

let rig: Rig;
const send = (method: string, route: string, body?: unknown): Promise<Answer> =>
  rig.ask(route, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
const drift = (group: string) => `/v1/scaling-groups/${group}/drift`;

/** What a worker leaves in the index; nothing reads the file itself here. */
const sampled = async (group: string): Promise<void> => {
  const file: InferenceFile = {
    ...{ group, digest: `sha256:${'0'.repeat(64)}`, bytes: 100, rows: 10, from: T0, until: T0 + 1000 },
    ...{ model: 'house', modelVersion: 1, functionVersion: 'v', retentionMs: 86_400_000 },
  };
  const key = inferenceFileKey(file, '00000000-0000-0000-0000-000000000000');
  await rig.store.documents.put({ kind: 'inference-file', key, revision: null, value: file });
};

const groups = async (...names: readonly string[]): Promise<void> => {
  for (const name of names) {
    await send('PUT', `/v1/scaling-groups/${name}`, DEPLOYMENT);
    await sampled(name);
  }
};

const SETTINGS = { reference: { from: T0, until: T0 + 86_400_000 }, windowMs: 3_600_000 };
const FIGURES = {
  ...{ at: Date.UTC(2026, 10, 1), referenceRows: 2000, windowRows: 600, reason: null },
  columns: [
    { column: 'input.rooms "x"', psi: 0.5, ks: null },
    { column: 'input.sqft', psi: 0.25, ks: 0.125 },
    { column: 'output', psi: null, ks: null },
  ],
};

beforeAll(async () => {
  rig = await startRig();
  await rig.post('/v1/models/house/versions', REGISTRATION);
  await groups('g', 'h');
});
afterAll(() => rig.stop());

describe('drift of a scaling group', () => {
  it('is set, shown and ended', async () => {
    const set = await send('PUT', drift('g'), BODY);
    expect(set.status).toBe(200);
    expect(set.json).toEqual({
      reference: { from: '2026-10-01T00:00:00.000Z', until: '2026-10-02T00:00:00.000Z' },
      ...{ window_ms: 3_600_000, figures: null, due_at: expect.stringMatching(/Z$/) },
    });
    await noteFigures(rig.store.documents, { group: 'g', settings: SETTINGS }, FIGURES);
    const shown = await send('GET', drift('g'));
    expect([shown.status, shown.json]).toEqual([
      200,
      {
        ...set.json,
        figures: {
          ...{ at: '2026-11-01T00:00:00.000Z', reference_rows: 2000, window_rows: 600, reason: null },
          columns: FIGURES.columns,
        },
        due_at: '2026-11-01T00:01:00.000Z',
      },
    ]);
    expect((await send('PUT', drift('g'), BODY)).json.figures).toEqual(shown.json.figures);
    expect((await send('PUT', drift('g'), { ...BODY, window_ms: 60_000 })).json.figures).toBeNull();
    expect((await send('DELETE', drift('g'))).status).toBe(204);
    for (const method of ['GET', 'DELETE'])
      expect((await send(method, drift('g'))).json).toMatchObject({ status: 404, code: 'drift_not_found' });
  });

  it.each<[string, object, RegExp]>([
    [
      'reference.until',
      { ...BODY, reference: { ...reference, until: '2999-01-01T00:00:00Z' } },
      /a time that has passed/,
    ],
    [
      'reference.from',
      { ...BODY, reference: { from: reference.until, until: reference.from } },
      /a time before/,
    ],
    ['reference.from', { ...BODY, reference: { ...reference, from: reference.until } }, /a time before/],
    [
      'reference.from',
      { ...BODY, reference: { ...reference, from: 'monday' } },
      /"monday"; give a time such as/,
    ],
    [
      'reference.from',
      { ...BODY, reference: { ...reference, from: '2026-10-01T00:00:00' } },
      /give a time such/,
    ],
    [
      'reference.until',
      { ...BODY, reference: { ...reference, until: '2026-02-31T25:00:00Z' } },
      /give a time/,
    ],
    ['reference.until', { ...BODY, reference: { from: reference.from } }, /is missing/],
    ['reference', { window_ms: 60_000 }, /is missing/],
    [
      'reference',
      { ...BODY, reference: { from: '2025-01-01T00:00:00Z', until: '2025-01-02T00:00:00Z' } },
      /no sampled rows of g .* no inference store.*groups update g --inference-store/,
    ],
    ['window_ms', { ...BODY, window_ms: 59_999 }, /from 60000 to 34560000000/],
    ['window_ms', { ...BODY, window_ms: 400 * 86_400_000 + 1 }, /from 60000/],
    ['window_ms', { ...BODY, window_ms: '3600000' }, /give a whole number/],
    ['columns', { ...BODY, columns: ['sqft'] }, /there are reference, window_ms/],
  ])('refuses %s with the way out', async (field, body, detail) => {
    const { status, json } = await send('PUT', drift('g'), body);
    expect([status, json.code, json.field]).toEqual([422, 'invalid_drift', field]);
    expect(json.detail).toMatch(detail);
  });

  it('says where to look when the group with an inference store has no rows of that time', async () => {
    await send('PUT', '/v1/scaling-groups/kept', { ...DEPLOYMENT, inference_store: {} });
    const { json } = await send('PUT', drift('kept'), BODY);
    expect([json.code, json.field]).toEqual(['invalid_drift', 'reference']);
    expect(json.detail).toMatch(/no sampled rows of kept .*kept\/inference-files lists what is.*flush_ms/);
    expect(json.detail).not.toContain('no inference store');
  });

  it.each(['nobody', '..%2Fg', 'G%20'])('knows no group %s', async (group) => {
    for (const [method, body] of [['PUT', BODY], ['GET'], ['DELETE']] as const)
      expect((await send(method, drift(group), body)).json).toMatchObject({
        ...{ status: 404, code: 'scaling_group_not_found' },
      });
  });

  it('is in the metrics for as long as its group is there', async () => {
    await send('PUT', drift('h'), BODY);
    await noteFigures(rig.store.documents, { group: 'h', settings: SETTINGS }, FIGURES);
    const series = async () =>
      (await rig.ask('/metrics')).text
        .split('\n')
        .filter((line) => line.startsWith('sluice_drift_'))
        .toSorted();
    const expected = [
      'sluice_drift_ks{column="input.sqft",function="model.h"} 0.125',
      'sluice_drift_psi{column="input.rooms \\"x\\"",function="model.h"} 0.5',
      'sluice_drift_psi{column="input.sqft",function="model.h"} 0.25',
      'sluice_drift_rows{function="model.h",window="reference"} 2000',
      'sluice_drift_rows{function="model.h",window="window"} 600',
    ];
    const normal = (line: string) => {
      const [, name, labels, value] = /^(\w+)\{(.*)\} (.*)$/.exec(line)!;
      return `${name}{${labels!
        .match(/\w+="(?:[^"\\]|\\.)*"/g)!
        .toSorted()
        .join()}} ${value}`;
    };
    expect((await series()).map(normal).toSorted()).toEqual(expected);
    expect((await series()).length).toBe(expected.length);
    await send('DELETE', '/v1/scaling-groups/h');
    expect(await series()).toEqual([]);
    expect(await rig.store.documents.get('drift', 'h')).toBeUndefined();
  });
});

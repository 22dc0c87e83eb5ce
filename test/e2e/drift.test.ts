/** Drift of a real model's rows: sampled by its worker, compared by a buffer process, told by every door's metrics. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ColumnDriftJson, DriftJson } from '../../shared/wire/inference-api.ts';
import { type Deployment, eventually, SluiceServer } from '../support/sluice-process.ts';
import { Fleet, onEveryStore } from '../support/stores.ts';

/** The price follows one column alone, and there is none where that is null. */
const MODEL = `
import pyarrow.compute as pc

class Model:
    def predict(self, df):
        return {"price": pc.multiply(df.to_arrow()["sqft"], 2.0)}
`;
const REGISTRATION = {
  inputs: [
    { name: 'sqft', type: 'float64', nullable: true },
    { name: 'rooms', type: 'int64', nullable: true },
    { name: 'city', type: 'utf8', nullable: true },
  ],
  outputs: [{ name: 'price', type: 'float64', nullable: true }],
  handler: { file: 'model.py', attribute: 'Model' },
  source: [{ path: 'model.py', content: Buffer.from(MODEL).toString('base64') }],
};
const DEPLOYMENT = { model: 'house', inference_store: { flush_ms: 100 } };
const GROUP = '/v1/scaling-groups/sg';

const send = async (url: string, method: string, route: string, body?: unknown, prefer = 'wait=60') => {
  const response = await fetch(url + route, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json', prefer } }),
  });
  const text = await response.text();
  return { status: response.status, json: /^[{[]/.test(text) ? JSON.parse(text) : null, text };
};

const CALLS = 10;
const CALL_ROWS = 100;
/** Spread evenly, in no order, and the same each time. */
const evenly = (row: number, step: number): number => (row * step) % 1;

const rowsFrom = (first: number, shift: number) => {
  const rows = Array.from({ length: CALL_ROWS }, (_, i) => first + i);
  return {
    sqft: rows.map((row) => 50 + 100 * evenly(row, 0.618034) + shift),
    rooms: rows.map((row) => Math.floor(1 + 6 * evenly(row, 0.414214))),
    city: rows.map((row) => (evenly(row, 0.7320508) < 0.5 + shift / 250 ? 'Bern' : 'Basel')),
  };
};

onEveryStore((store) => {
  let deployment: Deployment;
  let doors: readonly string[];
  beforeEach(async () => {
    if (store.name === 'embedded') {
      deployment = await SluiceServer.start();
      doors = [deployment.url];
      return;
    }
    const roles = ['ingress', 'ingress', 'buffer', 'buffer', 'worker'];
    const fleet = await Fleet.start(await store.makeHome(), roles);
    deployment = fleet;
    doors = fleet.processes.map(({ url }) => url).filter((url) => url !== '');
  });
  afterEach(() => deployment.dispose());

  /** Resolves when all rows of the calls are in files. */
  const callWith = async (shift: number, filedRows: number): Promise<void> => {
    const [url] = doors;
    const calls = Array.from({ length: CALLS }, (_, at) =>
      send(url!, 'POST', '/v1/functions/model.sg/calls', { columns: rowsFrom(at * CALL_ROWS, shift) }),
    );
    for (const { json } of await Promise.all(calls)) expect(json.status).toBe('completed');
    await eventually('the rows are in files', async () => {
      const { json } = await send(url!, 'GET', `${GROUP}/inference-files`);
      const files = json.inference_files as readonly { rows: number }[];
      return files.reduce((sum, { rows }) => sum + rows, 0) === filedRows ? true : undefined;
    });
  };

  const series = async (url: string): Promise<Record<string, number>> => {
    const lines = (await send(url, 'GET', '/metrics')).text.matchAll(
      /^(sluice_drift_\w+)\{(.*function="model\.sg".*)\} (\S+)$/gm,
    );
    return Object.fromEntries(
      [...lines].map(([, name, labels, value]) => {
        const label = /(?:column|window)="([^"]+)"/.exec(labels!)![1];
        return [`${name} ${label}`, Number(value)];
      }),
    );
  };

  describe('drift', () => {
    it('of columns that moved is seen, also in their answers, and not of one that stayed', async () => {
      const [url] = doors;
      expect((await send(url!, 'POST', '/v1/models/house/versions', REGISTRATION)).status).toBe(201);
      expect((await send(url!, 'PUT', GROUP, DEPLOYMENT)).status).toBe(201);
      const from = new Date().toISOString();
      await callWith(0, CALLS * CALL_ROWS);
      const until = new Date().toISOString();
      for (const round of [2, 3, 4]) await callWith(75, round * CALLS * CALL_ROWS);
      const body = { reference: { from, until }, window_ms: 3_600_000 };
      expect((await send(url!, 'PUT', `${GROUP}/drift`, body)).json).toMatchObject(body);
      const { figures } = await eventually('figures are computed', async () => {
        const found = (await send(doors.at(-1)!, 'GET', `${GROUP}/drift`)).json as DriftJson;
        return found.figures === null ? undefined : found;
      });
      expect(figures).toMatchObject({ reference_rows: 1000, window_rows: 4000, reason: null });
      const columns = Object.fromEntries(figures!.columns.map((one) => [one.column, one])) as Record<
        string,
        ColumnDriftJson
      >;
      expect(Object.keys(columns)).toEqual(['input.city', 'input.rooms', 'input.sqft', 'output']);
      for (const moved of ['input.sqft', 'output', 'input.city'])
        expect(columns[moved]!.psi, moved).toBeGreaterThan(0.2);
      expect(columns['input.rooms']!.psi).toBeLessThan(0.1);
      // Three of four rows have moved by three quarters of the width.
      expect(columns['input.sqft']!.ks).toBeCloseTo(0.56, 1);
      expect(columns['input.city']!.ks).toBeNull();
      for (const door of doors)
        expect(await series(door)).toEqual({
          ...Object.fromEntries(
            figures!.columns.map(({ column, psi }) => [`sluice_drift_psi ${column}`, psi]),
          ),
          ...Object.fromEntries(
            figures!.columns
              .filter(({ ks }) => ks !== null)
              .map(({ column, ks }) => [`sluice_drift_ks ${column}`, ks]),
          ),
          ...{ 'sluice_drift_rows reference': 1000, 'sluice_drift_rows window': 4000 },
        });
      expect((await send(url!, 'DELETE', GROUP)).status).toBe(204);
      for (const door of doors) expect(await series(door)).toEqual({});
      expect((await send(url!, 'GET', `${GROUP}/drift`)).json.code).toBe('scaling_group_not_found');
    });
  });
});

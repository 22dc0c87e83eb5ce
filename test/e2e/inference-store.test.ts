/** The inference store on real servers: models and engines are called, and their rows are read back from what the API lists. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { InferenceFilesJson } from '../../shared/wire/inference-api.ts';
import { type InferenceRow, parquetRows } from '../support/inference-rows.ts';
import {
  eventually,
  type Home,
  PYTHON,
  ROOT,
  SluiceServer,
  temporaryDirectory,
} from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

const MODEL = `
import pyarrow.compute as pc

class Model:
    def predict(self, df):
        table = df.to_arrow()
        if None in table["sqft"].to_pylist():
            raise ValueError("a house without a size")
        return {"price": pc.multiply(table["sqft"], 2.0), "tags": [["a", name] for name in table["name"].to_pylist()]}
`;
const ENGINE = `
project: numbers
name: scaler
version: "1"
command: [${JSON.stringify(PYTHON)}, ${JSON.stringify(path.join(ROOT, 'test/fixtures/engines/oip_scaler.py'))}, "{port}"]
inference_protocol: oip-v2
readiness_probe: {period_seconds: 0.2, failure_threshold: 300}
`;
const nullable = (name: string, type: unknown) => ({ name, type, nullable: true });

onEveryStore((store) => {
  let home: Home;
  let artifacts: string;
  let directory: string;
  let server: SluiceServer;
  const start = async (): Promise<void> => {
    server = await SluiceServer.start({ home, args: ['--artifacts', artifacts] });
  };
  const at = (name: string): string => path.join(directory, name);
  beforeAll(async () => {
    home = await store.makeHome();
    [artifacts, directory] = [temporaryDirectory(), temporaryDirectory()];
    await start();
  });
  afterAll(async () => {
    await server?.dispose();
    await home.remove();
    for (const one of [artifacts, directory]) rmSync(one, { recursive: true, force: true });
  });

  const ask = async (method: string, route: string, body?: unknown, prefer = 'wait=60') => {
    const headers = { 'content-type': 'application/json', prefer };
    const response = await fetch(server.url + route, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers }),
    });
    expect(response.status, await response.clone().text()).toBeLessThan(300);
    return JSON.parse(await response.text());
  };
  const call = (group: string, columns: object) =>
    ask('POST', `/v1/functions/model.${group}/calls`, { columns });
  const files = (group: string): Promise<InferenceFilesJson> =>
    ask('GET', `/v1/scaling-groups/${group}/inference-files`);
  const rowsOf = async (group: string): Promise<readonly InferenceRow[]> => {
    const rows: InferenceRow[] = [];
    for (const { href } of (await files(group)).inference_files)
      rows.push(...(await parquetRows(new Uint8Array(await (await fetch(server.url + href)).arrayBuffer()))));
    return rows;
  };
  const rowsThere = (group: string, count: number) =>
    eventually(`${count} rows of ${group} are in files`, async () => {
      const { inference_files: listed } = await files(group);
      return listed.reduce((sum, { rows }) => sum + rows, 0) >= count && rowsOf(group);
    });

  it('has what a model was asked and what it answered, failed rows among them', async () => {
    await ask('POST', '/v1/models/house/versions', {
      inputs: [nullable('sqft', 'float64'), nullable('name', 'utf8')],
      outputs: [nullable('price', 'float64'), nullable('tags', { list: nullable('item', 'utf8') })],
      handler: { file: 'model.py', attribute: 'Model' },
      source: [{ path: 'model.py', content: Buffer.from(MODEL).toString('base64') }],
    });
    await ask('PUT', '/v1/scaling-groups/houses', {
      ...{ model: 'house', inference_store: { flush_ms: 100 }, retry: { retries: 0 } },
    });
    const before = Date.now();
    const { call_id: id } = await call('houses', { sqft: [1, null, 3], name: ['x', 'y', null] });
    const rows = (await rowsThere('houses', 3)).toSorted((a, b) => Number(a.row) - Number(b.row));
    expect(
      rows.map(({ call_id, row, status, input, output }) => [call_id, row, status, input, output]),
    ).toEqual([
      [id, 0, 'ok', { sqft: 1, name: 'x' }, { price: 2, tags: ['a', 'x'] }],
      [id, 1, 'failed', { sqft: null, name: 'y' }, null],
      [id, 2, 'ok', { sqft: 3, name: null }, { price: 6, tags: ['a', null] }],
    ]);
    expect(rows[1]).toMatchObject({ error_code: 'handler_error', model: 'house', model_version: 1 });
    const [file] = (await files('houses')).inference_files;
    expect(Date.parse(file!.from)).toBeGreaterThanOrEqual(before);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/sluice_inference_rows_total\{function="model.houses",status="stored"\} 3\n/);
  });

  it('has what an engine was asked and what it answered', async () => {
    mkdirSync(at('model/weights'), { recursive: true });
    writeFileSync(at('engine.yaml'), ENGINE);
    writeFileSync(at('model/weights/factor.txt'), '3');
    for (const args of [
      ['engines', 'create', '-f', at('engine.yaml')],
      ['models', 'import', 'numbers', 'Tripled', at('model'), '--task-type', 'Regression'],
    ]) {
      const { code, stderr } = await server.run(args);
      expect([code, stderr.includes('Error')]).toEqual([0, false]);
    }
    await ask('PUT', '/v1/scaling-groups/tripled', {
      ...{ model: 'Tripled', engine_selector: { project_name: 'numbers', engine_name: 'scaler' } },
      ...{ inference_store: { flush_ms: 100 } },
    });
    const values = Array.from({ length: 100 }, (_, i) => i);
    const { result } = await call('tripled', { value: values });
    expect(result).toEqual(values.map((value) => value * 3));
    const rows = await rowsThere('tripled', 100);
    for (const { row, input, output } of rows)
      expect([input, output]).toEqual([{ value: row }, 3 * (row as number)]);
  });

  it('keeps through a stop what was gathered, and loses no more than that in a crash', async () => {
    await ask('PUT', '/v1/scaling-groups/late', { model: 'house', inference_store: { flush_ms: 3_600_000 } });
    await call('late', { sqft: [1], name: ['lost'] });
    await server.kill('SIGKILL');
    await start();
    expect((await files('late')).inference_files).toEqual([]);
    expect((await files('houses')).inference_files.length).toBeGreaterThan(0);
    await call('late', { sqft: [2], name: ['kept'] });
    await server.kill('SIGTERM');
    await start();
    expect((await rowsOf('late')).map(({ input }) => input)).toEqual([{ sqft: 2, name: 'kept' }]);
  });
});

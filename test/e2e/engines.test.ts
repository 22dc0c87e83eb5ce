/** Engines as users have them: registered and deployed by the command and the SDK, called while they are replaced. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { type Deployment, PYTHON, ROOT, temporaryDirectory } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

const SCALER = path.join(ROOT, 'test/fixtures/engines/oip_scaler.py');
const ENGINE = `
# An engine of the standard library alone.
project: numbers
name: scaler
version: "1"
command: [${JSON.stringify(PYTHON)}, ${JSON.stringify(SCALER)}, "{port}"]
inference_protocol: chariot-v2-kserve
readiness_probe: {period_seconds: 0.2, failure_threshold: 300}
predictor_env_schema:
  - {name: OFFSET, type: float, default_value: 0, display_text: Added to each value}
  - {name: SHOUT, type: bool}
enforce_predictor_env_schema: true
`;
const SELECTOR = { project_name: 'numbers', engine_name: 'scaler' };
const VALUES = Array.from({ length: 2000 }, (_, i) => i);

onEveryStore((store) => {
  let server: Deployment;
  let client: Sluice;
  let directory: string;
  const at = (name: string): string => path.join(directory, name);
  beforeEach(async () => {
    server = await store.start();
    client = new Sluice({ url: server.url });
    directory = temporaryDirectory();
    mkdirSync(at('model/weights'), { recursive: true });
    writeFileSync(at('engine.yaml'), ENGINE);
    writeFileSync(at('model/weights/factor.txt'), '3');
  });
  afterEach(async () => {
    await server?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });
  const ok = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await server.run(args);
    expect([args, code, code === 0 ? '' : stderr]).toEqual([args, 0, '']);
    return stdout;
  };
  const imported = (source: string) =>
    ok('models', 'import', 'numbers', 'Tripled', source, '--task-type', 'Regression', '--summary', '× 3');
  const predict = async (values: readonly number[]): Promise<readonly unknown[]> => {
    const response = await fetch(`${server.url}/v1/functions/model.tripled/calls`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', prefer: 'wait=60' },
      body: JSON.stringify({ columns: { value: values } }),
    });
    const json = (await response.json()) as { status: string; result: unknown[] };
    expect([response.status, json.status], JSON.stringify(json).slice(0, 2000)).toEqual([200, 'completed']);
    return json.result;
  };

  it('the command registers an engine, imports a model for it, serves it, and deletes what is free', async () => {
    expect(await ok('engines')).toContain('No engines yet');
    expect(await ok('engines', 'create', '-f', at('engine.yaml'))).toBe(
      'Version 1 of numbers/scaler is registered, and the default.\n',
    );
    await ok('engines', 'create', '-f', at('engine.yaml'), '--engine-version', '2');
    await ok('engines', 'default', 'numbers', 'scaler', '2');
    expect(await ok('engines', 'list', '--project', 'numbers')).toMatch(/numbers +scaler +2 +2 /);
    const shown = await ok('engines', 'show', 'numbers', 'scaler');
    expect(shown).toMatch(
      /listens: +a free port for each replica \(\{port\}, \$PORT\), \/v2\/models\/\{model_id\}\/infer\n/,
    );
    expect(shown).toMatch(
      /numbers\/scaler 2 \(default\)[\s\S]*oip-v2[\s\S]*OFFSET +float +0 +Added to each value/,
    );
    execFileSync('tar', ['-czf', at('model.tar.gz'), '-C', at('model'), '.']);
    expect(await imported(at('model.tar.gz'))).toBe('Version 1 of Tripled is imported, with 1 file.\n');
    const columns = ['--input', 'value=float64', '--input', 'tags=list<utf8>', '--output', 'result=float32'];
    await ok('models', 'import', 'numbers', 'Columns', at('model'), ...columns);
    const { inputs, outputs } = await client.models.version('Columns');
    expect([...inputs, ...outputs].map(({ name }) => name)).toEqual(['value', 'tags', 'result']);
    const deploy = ['groups', 'deploy', 'tripled', '--model', 'Tripled'];
    await ok(...deploy, '--engine', 'numbers/scaler@1', '--predictor', 'OFFSET=0.5');
    expect(await ok('groups', 'show', 'tripled')).toMatch(/engine: +numbers\/scaler 1\n/);
    // Without a schema each row's answer is JSON: numbers, and not their texts.
    expect(await predict([1, 2])).toEqual([3.5, 6.5]);
    expect(await ok('groups', 'logs', 'tripled')).toContain('scaling by 3.0 for Regression');
    const refused = await server.run(['engines', 'delete', 'numbers', 'scaler', '1']);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('"tripled"')]);
    // Another scaling keeps the engine and its variables.
    await ok('groups', 'update', 'tripled', '--max-replicas', '2');
    const group = await client.scalingGroups.get('tripled');
    expect([group.engine?.version, group.engine?.predictor_env]).toEqual(['1', { OFFSET: '0.5' }]);
    await ok('groups', 'delete', 'tripled');
    await ok('engines', 'delete', 'numbers', 'scaler');
    expect(await client.engines.list()).toEqual([]);
  });

  it('an update to other variables and another engine fails no call', async () => {
    await ok('engines', 'create', '-f', at('engine.yaml'));
    await imported(at('model'));
    const begun = await client.scalingGroups.deploy('tripled', {
      model: 'Tripled',
      engine_selector: SELECTOR,
    });
    await client.scalingGroups.waitReady('tripled', { since: begun, timeoutMs: 60_000 });
    let isOver = false;
    const seen = new Set<unknown>();
    const load = (async () => {
      while (!isOver) {
        const results = await predict(VALUES);
        expect(results).toHaveLength(VALUES.length);
        seen.add(results[1]);
        // A call is served by one version as a whole.
        expect(results).toEqual(VALUES.map((value) => value * 3 + (results[0] as number)));
      }
    })();
    const second = await client.engines.version('numbers', 'scaler');
    const { used_by: _u, created_at: _c, ...same } = second;
    await client.engines.create({
      ...same,
      version: '2',
      env: { OFFSET: '7' },
      predictor_env_schema: [],
      is_default: true,
    });
    const update = await client.scalingGroups.deploy('tripled', {
      model: 'Tripled',
      engine_selector: SELECTOR,
    });
    await client.scalingGroups.waitReady('tripled', { since: update, timeoutMs: 60_000 });
    await expect.poll(() => [...seen].sort(), { timeout: 60_000 }).toEqual([10, 3]);
    isOver = true;
    await load;
    expect((await client.engines.version('numbers', 'scaler', '1')).used_by).toEqual([]);
    await client.engines.remove('numbers', 'scaler', '1');
  });

  it('an engine that does not come up leaves the one before, with its last words', async () => {
    await ok('engines', 'create', '-f', at('engine.yaml'));
    await imported(at('model'));
    const begun = await client.scalingGroups.deploy('tripled', {
      model: 'Tripled',
      engine_selector: SELECTOR,
    });
    await client.scalingGroups.waitReady('tripled', { since: begun, timeoutMs: 60_000 });
    await client.engines.create({
      ...{ project: 'numbers', name: 'scaler', version: 'broken', inference_protocol: 'oip-v2' },
      command: [PYTHON, '-c', 'raise SystemExit("no weights for you")'],
    });
    const update = await client.scalingGroups.deploy('tripled', {
      ...{ model: 'Tripled', engine_selector: { ...SELECTOR, version: 'broken' } },
    });
    await expect(
      client.scalingGroups.waitReady('tripled', { since: update, timeoutMs: 90_000 }),
    ).rejects.toMatchObject({ reason: expect.stringContaining('no weights for you') });
    expect(await predict([2])).toEqual([6]);
    await client.engines.remove('numbers', 'scaler', 'broken');
  });
});

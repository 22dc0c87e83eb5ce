/** `sluice sql` as users run it. What queries may hold is tested on both stores in python/tests/test_sql_live.py. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { eventually, ROOT, SluiceServer, sluice, temporaryDirectory } from '../support/sluice-process.ts';

const ROWS = 5000;

describe('sluice sql', () => {
  let server: SluiceServer;
  const directory = temporaryDirectory();
  const at = (name: string): string => path.join(directory, name);
  const query = (columns: string, rest = ''): string =>
    `select ${columns}, catalog_call('length', text) as n from '${at('texts.parquet')}' ${rest}`;

  beforeAll(async () => {
    server = await SluiceServer.start();
    await server.deploy('test/fixtures/functions/texts.ts');
    const texts = Array.from({ length: ROWS }, (_, i) => (i === 77 ? 'bad' : 'x'.repeat(i % 50)));
    const columnData = [
      { name: 'id', data: texts.map((_, i) => i), type: 'INT32' as const },
      { name: 'text', data: texts, type: 'STRING' as const },
    ];
    writeFileSync(at('texts.parquet'), new Uint8Array(parquetWriteBuffer({ columnData })));
  });
  afterAll(async () => {
    await server?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  it('prints rows in each format', async () => {
    const three = query('id', 'where id < 3');
    expect((await server.run(['sql', three])).stdout).toBe('"id","n"\n0,0\n1,1\n2,2\n');
    const json = await server.run(['sql', '--format', 'json', three]);
    expect(JSON.parse(json.stdout)).toEqual([0, 1, 2].map((id) => ({ id, n: id })));
    const lines = await server.run(['sql', '--format', 'ndjson', query('id, [id] as list', 'where id = 2')]);
    expect(lines.stdout).toBe('{"id":2,"list":[2],"n":2}\n');
    const table = await server.run(['sql', '--format', 'table', three]);
    expect(table.stdout).toMatch(/│\s+id\s+│\s+n\s+│/);
    expect((await server.run(['sql', '--format', 'json', query('id', 'where id < 0')])).stdout).toBe('[]\n');
  });

  it('writes a file, whole or not at all', async () => {
    const failed = await server.run(['sql', query('id'), '--output', at('out.parquet')]);
    expect([failed.code, existsSync(at('out.parquet'))]).toEqual([1, false]);
    expect(failed.stderr).toMatch(/'length'.*text = 'bad'.*BadText: this text is bad.*--on-error null/);
    const args = ['--output', at('out.parquet'), '--on-error', 'null'];
    const { code, stdout, stderr } = await server.run(['sql', query('id'), ...args]);
    expect([code, stdout]).toEqual([0, `${at('out.parquet')}: 5,000 rows\n`]);
    expect(stderr).toContain('1 rows of calls failed and are null; the first: ');
    const rows = await parquetReadObjects({ file: await asyncBufferFromFile(at('out.parquet')) });
    expect(rows).toEqual(Array.from({ length: ROWS }, (_, id) => ({ id, n: id === 77 ? null : id % 50 })));
    await server.run(['sql', query('id', 'where id < 2'), '--output', at('out.csv')]);
    expect(readFileSync(at('out.csv'), 'utf8')).toBe('"id","n"\n0,0\n1,1\n');
  });

  it('takes values by name, and the query from standard input', async () => {
    const text = `${query('id', 'where id = $id and text <> $text')} -- the end`;
    const child = spawn(
      process.execPath,
      [path.join(ROOT, 'cli/bin/sluice.mjs'), 'sql', '-', '--param', 'id=4', '--param', 'text=none'],
      {
        cwd: ROOT,
        env: { ...process.env, ...server.env(), SLUICE_PYTHON: path.join(ROOT, '.venv/bin/python') },
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    child.stdin.end(text);
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (piece: string) => {
      stdout += piece;
    });
    await new Promise((resolve) => child.once('close', resolve));
    expect(stdout).toBe('"id","n"\n4,4\n');
  });

  it('ends at Ctrl-C, and its calls with it', async () => {
    const client = new Sluice({ url: server.url });
    await client.pause('length');
    const child = spawn(process.execPath, [path.join(ROOT, 'cli/bin/sluice.mjs'), 'sql', query('id')], {
      cwd: ROOT,
      env: { ...process.env, ...server.env(), SLUICE_PYTHON: path.join(ROOT, '.venv/bin/python') },
      stdio: 'ignore',
    });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const waiting = async (): Promise<number> => (await client.function('length').show()).queue.waiting_rows;
    await eventually('rows that wait', async () => (await waiting()) > 0);
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(await waiting()).toBe(0);
    await client.resume('length');
  });

  it('says what is wrong in a sentence', async () => {
    const cases: [string[], number, string][] = [
      [['selec 1'], 1, 'syntax error at or near "selec"'],
      [["select catalog_call('nothing', 1)"], 1, 'There is no function "nothing"'],
      [['select 1', '--format', 'xml'], 2, '--format is "xml"; give one of table, csv'],
      [['select 1', '--output', 'a.xlsx'], 2, '--output is a.xlsx; its name must end in one of .parquet'],
      [['select 1', '--param', 'a'], 2, '--param a is not name=value'],
      [['select 1', '--on-error', 'skip'], 2, '--on-error is "skip"'],
      [['select 1', '--python', at('no-python')], 1, 'could not be started; name a Python interpreter'],
    ];
    for (const [args, code, message] of cases) {
      const result = await server.run(['sql', ...args]);
      expect([args, result.code, result.stderr]).toEqual([args, code, expect.stringContaining(message)]);
      expect(result.stderr).not.toMatch(/Traceback|nanobind/);
    }
    const alone = await sluice(['sql', "select catalog_call('length', 'a')"], {
      SLUICE_URL: 'http://127.0.0.1:9',
    });
    expect([alone.code, alone.stderr]).toEqual([1, expect.stringContaining('No Sluice server answers')]);
  });

  it('runs the example', async () => {
    await server.deploy('examples/sql/prices.py');
    const best = readFileSync(path.join(ROOT, 'examples/sql/best.sql'), 'utf8');
    const { stdout, stderr } = await server.run(['sql', '--param', 'least=150000', '--', best]);
    expect([stdout, stderr]).toEqual(['"city","houses","best"\n"Delft",1,375000\n"Utrecht",2,227500\n', '']);
    const python = path.join(ROOT, '.venv/bin/python');
    const told = execFileSync(python, ['examples/sql/in_python.py'], {
      cwd: ROOT,
      env: { ...process.env, ...server.env() },
      encoding: 'utf8',
    });
    expect(told).toContain('[153000.0, 217500.0, None]');
  });
});

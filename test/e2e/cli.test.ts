/** The `sluice` command as users run it, against a real server with real handler processes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { type Deployment, eventually, ROOT, sluice, temporaryDirectory } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

onEveryStore((store) => {
  let server: Deployment;
  let client: Sluice;
  const directory = temporaryDirectory();
  const at = (name: string): string => path.join(directory, name);

  beforeAll(async () => {
    server = await store.start();
    await server.deploy('test/fixtures/functions/texts.ts');
    client = new Sluice({ url: server.url });
  });
  afterAll(async () => {
    await server?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  const ROWS = 450;
  const textOf = (row: number): string => `text ${row}`;

  const writeDocuments = (name: string, texts: readonly (string | null)[]): string => {
    const columnData = [
      { name: 'id', data: texts.map((_, i) => i), type: 'INT32' as const },
      { name: 'text', data: [...texts], type: 'STRING' as const },
    ];
    writeFileSync(at(name), new Uint8Array(parquetWriteBuffer({ columnData })));
    return at(name);
  };
  const documents = (): string[] => Array.from({ length: ROWS }, (_, i) => textOf(i));

  const rowsOf = async (file: string): Promise<Record<string, unknown>[]> =>
    parquetReadObjects({ file: await asyncBufferFromFile(file) });

  const isPlain = (text: string): void => {
    expect(text).not.toMatch(/^\s+at /m);
    expect(text.trim().split('\n').length).toBeLessThanOrEqual(2);
  };

  /** A command that is not waited for. */
  const started = (
    args: readonly string[],
  ): {
    child: ChildProcess;
    said: () => string;
    ended: Promise<{ code: number | null; stderr: string }>;
  } => {
    const child = spawn(process.execPath, [path.join(ROOT, 'cli/bin/sluice.mjs'), ...args], {
      cwd: ROOT,
      env: { ...process.env, ...server.env() },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
      child.once('close', (code) => resolve({ code, stderr })),
    );
    return { child, said: () => stderr, ended };
  };

  describe('deploy and call', () => {
    it('says what a file declares, and what that changed the second time', async () => {
      const again = await server.run(['deploy', 'test/fixtures/functions/texts.ts']);
      expect(again.stdout).toMatch(/length \w+ was deployed before; nothing changed\nvector /);
      expect(again.stdout).toMatch(/\ntry: sluice call length text=…\n$/);
      await server.run(['functions', 'update', 'length', '--max-batching-size', '3']);
      const reset = await server.run(['deploy', 'test/fixtures/functions/texts.ts']);
      expect(reset.stdout).toMatch(
        /length \w+ was deployed before; max_batching_size is (\d+|not set) again \(it was 3\)\nvector \w+ was deployed before; nothing changed\n/,
      );
      const { functions } = JSON.parse((await server.run(['functions', '--json'])).stdout);
      expect(functions.map(({ name }: { name: string }) => name).sort()).toEqual(['length', 'vector']);
    });

    it('sends rows in each way that there is', async () => {
      expect((await server.run(['call', 'length', 'text=hello'])).stdout).toBe('[5]\n');
      expect(
        (await server.run(['call', 'length', '--json', '{"rows":[{"text":"a"},{"text":""}]}'])).stdout,
      ).toBe('[1,0]\n');
      writeFileSync(at('rows.jsonl'), '{"text":"a"}\n{"text":"bb"}\n');
      expect((await server.run(['call', 'length', '--input', at('rows.jsonl')])).stdout).toBe('[1,2]\n');
    });

    it('prints what is ok, names what failed, and ends with 1', async () => {
      const { code, stdout, stderr } = await server.run(['call', 'length', '--json', '["a","bad"]']);
      expect([code, stdout]).toEqual([1, '[1,null]\n']);
      expect(stderr).toContain('1 of 2 rows failed; row 1: this text is bad');
      isPlain(stderr);
      const [, id] = /`sluice calls result (\S+) --json`/.exec(stderr)!;
      const result = (...options: string[]) => server.run(['calls', 'result', id!, ...options]);
      const [file, partial] = [at('result.arrows'), at('partial.arrows')];
      for (const [options, place] of [
        [[], 'see them with --json'],
        [['--json'], 'their errors are printed'],
        [['--output', file], `see the column "error" of ${file}`],
      ] as const)
        expect(await result(...options)).toMatchObject({
          code: 1,
          stderr: `sluice: 1 of 2 rows is not ok; ${place}.\n`,
        });
      expect(await result('--partial', '--output', partial)).toMatchObject({ code: 0, stdout: '' });
      expect(readFileSync(partial)).toEqual(readFileSync(file));
    });

    it('hands out call ids to come back to', async () => {
      const id = (await server.run(['call', 'length', 'text=abc', '--no-wait'])).stdout.trim();
      const waited = await server.run(['calls', 'wait', id]);
      expect(waited.stdout).toContain(`${id} completed: 1 of 1 row ok`);
      expect((await server.run(['calls', 'result', id])).stdout).toBe('[3]\n');
      expect(JSON.parse((await server.run(['calls', 'show', id])).stdout).call_id).toBe(id);
      expect((await server.run(['calls', '--function', 'length'])).stdout).toContain(id);
    });
  });

  it('deploys Python, and says what is wrong with a file that cannot be deployed', async () => {
    expect((await server.run(['deploy', 'examples/quickstart/shout.py'])).stdout).toMatch(
      /^shout \w+ is deployed/,
    );
    expect((await server.run(['call', 'shout', 'text=a man'])).stdout).toBe('["A MAN"]\n');
    writeFileSync(at('broken.py'), 'import sluice\n\nimport nothing_of_this_name\n');
    const { code, stderr } = await server.run(['deploy', at('broken.py')]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining("line 3: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ]);
    isPlain(stderr);
    const missing = await server.run(['deploy', at('broken.py'), '--python', at('no-python')]);
    expect([missing.code, missing.stderr]).toEqual([
      1,
      expect.stringContaining('could not be started; name a Python interpreter'),
    ]);
    await client.delete('shout');
  });

  describe('errors', () => {
    it('are one sentence, the way on, and an exit code', async () => {
      const cases: [string[], number, string][] = [
        [['call', 'nothing', 'a=1'], 1, 'sluice functions'],
        [['call', 'length', 'text'], 2, '"text" is not key=value'],
        [['calls', 'show', 'nothing'], 1, 'call id'],
        [['calls', '--function', 'nothing'], 1, 'There is no function "nothing"'],
        [['calls', 'result', 'c1', '--json', '--output', at('o.arrows')], 2, 'give one of them'],
        [['deploy', 'nothing.py'], 2, 'nothing.py does not exist'],
        [['deploy', 'README.md'], 2, 'neither Python'],
        [['deploy', 'vitest.config.ts'], 1, 'declares no function'],
        [
          ['run', '--function', 'length', '--input', 'a.xlsx', '--output', at('o.parquet')],
          2,
          '--input is a.xlsx',
        ],
        [
          ['run', '--function', 'length', '--input', 'none.csv', '--output', at('o.parquet')],
          1,
          'none.csv does not exist',
        ],
        [['functions', 'update', 'length'], 2, '--max-batching-size'],
        [['nonsense'], 2, "unknown command 'nonsense'"],
        [['dev', '--port', 'abc'], 2, '--port (SLUICE_PORT) is "abc"; give a whole number from 0 to 65535'],
        [['serve', '--role', 'foo'], 2, '--role (SLUICE_ROLE) is "foo"; give all, or some of'],
        [['call', 'length', 'text=a', '--url', 'http://127.0.0.1:1'], 1, 'sluice dev'],
      ];
      for (const [args, code, text] of cases) {
        const result = await server.run(args);
        expect([args, result.code]).toEqual([args, code]);
        expect(result.stderr).toContain(text);
        isPlain(result.stderr);
      }
    });

    it('of a module that does not load name its error', async () => {
      writeFileSync(at('broken.ts'), 'throw new TypeError("out of order");\n');
      const { code, stderr } = await server.run(['deploy', at('broken.ts')]);
      expect(code).toBe(1);
      expect(stderr).toContain('could not be imported: TypeError: out of order');
    });
  });

  describe('run', () => {
    it('writes results beside the rows that they belong to', async () => {
      const input = writeDocuments('docs.parquet', documents());
      const output = at('vectors.parquet');
      const args = ['run', '--function', 'vector', '--input', input, '--column', 'text', '--output', output];
      const { code, stdout } = await server.run([...args, '--chunk-size', '100', '--json']);
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ rows: ROWS, rows_failed: 0, rows_resumed: 0, chunks: 5 });
      const rows = await rowsOf(output);
      expect(rows.map(({ id }) => id)).toEqual(documents().map((_, i) => i));
      rows.forEach(({ result }, i) => {
        expect(result).toEqual([textOf(i).length, 116, 0.5, -1]);
      });
      expect(existsSync(`${output}.parts`)).toBe(false);
    });

    it('takes and gives every format that it names', async () => {
      const lines = documents().map((text, i) => `${i},${text}\n`);
      writeFileSync(at('docs.csv'), `id,body\n${lines.join('')}`);
      const steps = [
        { from: 'docs.csv', to: 'a.arrow', column: 'text=body', keep: 'all' },
        { from: 'a.arrow', to: 'b.arrows', column: 'body', keep: 'body' },
        { from: 'b.arrows', to: 'c.parquet', column: 'body', keep: 'body' },
      ];
      for (const { from, to, column, keep } of steps) {
        const args = [
          'run',
          '--function',
          'length',
          '--input',
          at(from),
          '--output',
          at(to),
          '--column',
          column,
        ];
        const { code, stderr } = await server.run([...args, '--keep', keep, '--chunk-size', '128']);
        expect([code, stderr]).toEqual([0, '']);
      }
      const rows = await rowsOf(at('c.parquet'));
      expect(rows).toEqual(documents().map((text) => ({ body: text, result: text.length })));
    });

    it('of no rows has the columns all the same', async () => {
      writeFileSync(at('empty.csv'), 'id,text\n');
      const { code } = await server.run([
        'run',
        '--function',
        'vector',
        '--input',
        at('empty.csv'),
        '--output',
        at('empty.parquet'),
      ]);
      expect(code).toBe(0);
      expect(await rowsOf(at('empty.parquet'))).toEqual([]);
    });

    it('gives null and the error for rows that fail or are refused, when asked', async () => {
      const texts: (string | null)[] = documents();
      texts[123] = 'bad';
      for (const row of [121, 140, 200]) texts[row] = null;
      const input = writeDocuments('bad.parquet', texts);
      const args = [
        'run',
        '--function',
        'length',
        '--input',
        input,
        '--output',
        at('nulls.parquet'),
        '--chunk-size',
        '50',
      ];
      const refused = await server.run([...args, '--concurrent-chunks', '1']);
      expect(refused.stderr).toContain('column "text" is not nullable, but row 121 is null. Correct the row');
      const { code, stdout } = await server.run([...args, '--on-error', 'null', '--json']);
      expect([code, JSON.parse(stdout).rows_failed]).toEqual([0, 4]);
      const rows = await rowsOf(at('nulls.parquet'));
      expect(rows.flatMap(({ id, result }) => (result === null ? [id] : []))).toEqual([121, 123, 140, 200]);
      expect(rows.map(({ id, result }) => [id, result])[150]).toEqual([150, 'text 150'.length]);
      expect(JSON.parse(rows[200]!.error as string)).toEqual({
        code: 'schema_mismatch',
        message: 'column "text" is not nullable, but row 200 is null',
      });
      expect(JSON.parse(rows[123]!.error as string)).toMatchObject({
        kind: 'BadText',
        message: 'this text is bad',
      });
      expect(rows.filter(({ error }) => error !== null)).toHaveLength(4);
    });

    it('stops at a row that fails, and goes on with what is finished once it is corrected', async () => {
      const texts = documents();
      texts[ROWS - 1] = 'bad';
      const args = [
        'run',
        '--function',
        'length',
        '--input',
        writeDocuments('fix.parquet', texts),
        '--output',
        at('fixed.parquet'),
      ];
      const chunks = ['--chunk-size', '50', '--concurrent-chunks', '1', '--json'];
      const first = await server.run([...args, ...chunks]);
      expect(first.code).toBe(1);
      expect(first.stderr).toContain(`Row ${ROWS - 1} failed: BadText: this text is bad (`);
      expect(first.stderr).toContain('400 finished rows are kept');
      isPlain(first.stderr);
      expect(existsSync(at('fixed.parquet'))).toBe(false);
      writeDocuments('fix.parquet', documents());
      const second = await server.run([...args, ...chunks]);
      expect(JSON.parse(second.stdout)).toMatchObject({ rows: ROWS, rows_resumed: 400 });
      expect((await rowsOf(at('fixed.parquet'))).map(({ result }) => result)).toEqual(
        documents().map((text) => text.length),
      );
    });

    it('cancels what is in flight on SIGINT, says how to go on, and goes on', async () => {
      const input = writeDocuments('int.parquet', documents());
      const args = [
        'run',
        '--function',
        'vector',
        '--input',
        input,
        '--output',
        at('int-out.parquet'),
        '--chunk-size',
        '50',
      ];
      await client.pause('vector');
      const { child, said, ended } = started([...args, '--concurrent-chunks', '3']);
      const pending = async () => (await client.calls({ function: 'vector', status: 'pending' })).calls;
      const inFlight = await eventually('three calls', async () => {
        const calls = await pending();
        return calls.length === 3 && calls;
      });
      await eventually('the reason of the wait', async () =>
        said().includes(
          'waiting: vector is paused (sluice resume vector); finished rows are kept if you stop\n',
        ),
      );
      child.kill('SIGINT');
      const { code, stderr } = await ended;
      expect(code).toBe(130);
      expect(stderr).toContain('Run the same command again to start anew.');
      for (const { call_id } of inFlight)
        expect((await client.call(call_id).status()).status).toBe('cancelled');
      await client.resume('vector');
      const second = await server.run([...args, '--json']);
      expect(JSON.parse(second.stdout)).toMatchObject({ rows: ROWS, rows_failed: 0 });
      expect(await rowsOf(at('int-out.parquet'))).toHaveLength(ROWS);
    });

    it('that was killed finds its calls again and computes nothing twice', async () => {
      const input = writeDocuments('kill.parquet', documents());
      const args = [
        'run',
        '--function',
        'vector',
        '--input',
        input,
        '--output',
        at('kill-out.parquet'),
        '--chunk-size',
        '50',
      ];
      const allCalls = async (): Promise<Set<string>> =>
        new Set(
          (await client.calls({ function: 'vector', limit: 1000 })).calls.map(({ call_id }) => call_id),
        );
      const before = await allCalls();
      await client.pause('vector');
      const { child, ended } = started([...args, '--concurrent-chunks', '9']);
      await eventually('nine calls', async () => (await allCalls()).size - before.size === 9);
      child.kill('SIGKILL');
      await ended;
      await client.resume('vector');
      const { code, stdout } = await server.run([...args, '--json']);
      expect([code, JSON.parse(stdout).rows]).toEqual([0, ROWS]);
      expect((await allCalls()).size - before.size).toBe(9);
      const rows = await rowsOf(at('kill-out.parquet'));
      expect(rows.map(({ result }) => (result as number[])[0])).toEqual(
        documents().map((text) => text.length),
      );
    });
  });

  describe('administration', () => {
    it('pauses, resumes, purges and updates', async () => {
      expect((await server.run(['pause', 'length'])).stdout).toContain('length is paused');
      const id = (await server.run(['call', 'length', 'text=a', '--no-wait'])).stdout.trim();
      expect((await server.run(['functions'])).stdout).toMatch(/length .*paused/);
      const early = await server.run(['calls', 'result', id]);
      expect([early.code, early.stderr]).toEqual([1, expect.stringContaining(`sluice calls wait ${id}`)]);
      expect((await server.run(['cancel', id])).stdout).toContain(`${id} cancelled`);
      expect((await server.run(['functions', 'purge', 'length'])).stdout).toContain(
        '0 calls of length with 0 rows are cancelled',
      );
      expect((await server.run(['resume', 'length'])).stdout).toContain('length goes on');
      expect((await server.run(['functions', 'update', 'length', '--max-batching-size', '8'])).code).toBe(0);
    });

    it('says what a call waits for, and that it goes on after Ctrl-C', async () => {
      await client.pause('length');
      const { child, said, ended } = started(['call', 'length', 'text=a']);
      await eventually('the reason of the wait', async () => said().endsWith(' goes on if you stop\n'));
      const [, id] = /^waiting: length is paused \(sluice resume length\); call (\S+) goes/.exec(said())!;
      child.kill('SIGINT');
      const { code, stderr } = await ended;
      expect([code, stderr]).toEqual([
        130,
        expect.stringContaining(`\`sluice calls cancel ${id}\` cancels it`),
      ]);
      expect((await client.call(id!).status()).status).toBe('pending');
      const wait = started(['calls', 'wait', id!]);
      await eventually('the reason of the wait', async () => wait.said().endsWith(' goes on if you stop\n'));
      wait.child.kill('SIGINT');
      expect(await wait.ended).toEqual({ code: 130, stderr });
      const busy = await server.run(['functions', 'delete', 'length']);
      expect([busy.code, busy.stderr]).toEqual([
        1,
        expect.stringContaining('`sluice functions purge length`'),
      ]);
      expect((await server.run(['functions', 'purge', 'length'])).stdout).toBe(
        '1 call of length with 1 row is cancelled.\n',
      );
      await server.run(['call', 'length', 'text=a', '--no-wait']);
      expect((await server.run(['resume', 'length'])).stdout).toBe('length goes on with 1 waiting row.\n');
    });

    it('says that there are no lines yet, and where the other settings are', async () => {
      const logs = await server.run(['functions', 'logs', 'length']);
      expect([logs.code, logs.stdout, logs.stderr]).toEqual([0, '', 'no lines yet\n']);
      for (const command of ['serve', 'dev'])
        expect((await sluice([command, '--help'])).stdout).toMatch(/\nMore settings: sluice config print\n$/);
    });

    it('prints the settings and where they come from', async () => {
      const { stdout } = await sluice(['config', 'print', '--json'], { SLUICE_LEASE: '5s' });
      const { settings } = JSON.parse(stdout);
      expect(settings.find(({ setting }: { setting: string }) => setting === 'lease')).toMatchObject({
        value: 5000,
        from: 'SLUICE_LEASE',
        flag: '--lease',
      });
    });

    it('makes, lists and revokes keys; once there is one, requests need one', async () => {
      const made = await server.run(['keys', 'create', 'ci', '--scope', 'admin']);
      const secret = made.stdout.trim();
      expect(made.stdout).not.toContain(' ');
      expect(made.stderr).toMatch(/\nFrom now on: export SLUICE_API_KEY=…\n$/);
      const refused = await server.run(['functions']);
      expect([refused.code, refused.stderr]).toEqual([
        1,
        expect.stringContaining('Set SLUICE_API_KEY or give'),
      ]);
      const listed = await server.run(['keys', 'list', '--json', '--api-key', secret]);
      const { keys } = JSON.parse(listed.stdout);
      expect(keys).toMatchObject([{ name: 'ci', scopes: ['admin'] }]);
      expect(listed.stdout).not.toContain(secret);
      const as = (key: string) => ['--api-key', key];
      const deployer = await server.run(['keys', 'create', 'cd', '--scope', 'deploy', ...as(secret)]);
      for (const [command, said] of [
        ['pause', 'is paused'],
        ['resume', 'goes on.\n'],
      ] as const) {
        const moved = await server.run([command, 'length', ...as(deployer.stdout.trim())]);
        expect([moved.code, moved.stdout]).toEqual([0, expect.stringContaining(`length ${said}`)]);
      }
      const others = JSON.parse((await server.run(['keys', 'list', '--json', ...as(secret)])).stdout).keys;
      const { id } = others.find(({ name }: { name: string }) => name === 'cd');
      expect((await server.run(['keys', 'revoke', id, ...as(secret)])).code).toBe(0);
      expect((await server.run(['keys', 'revoke', keys[0].id, ...as(secret)])).code).toBe(0);
    });
  });
});

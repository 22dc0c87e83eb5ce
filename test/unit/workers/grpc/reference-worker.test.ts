/** The reference worker from PyPI behind our client. Its answers, errors, generators and end are what they are with ours. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FunctionSpec } from '../../../../shared/domain/function.ts';
import { PYTHON, ROOT } from '../../../support/sluice-process.ts';
import {
  batchOf,
  field,
  type HandlerServer,
  runBatch,
  specOf,
  startServer,
  valuesOf,
} from './handler-server.ts';

const X = [field('x', 'int64')];
const INT = { type: 'int64', nullable: true } as const;

/** Directory of the environment with the package; an error says why there is none. */
const environment = async (): Promise<{ readonly place: string } | { readonly why: string }> => {
  try {
    const made = await promisify(execFile)(PYTHON, [path.join(ROOT, 'python/tests/real_packages.py')]);
    return { place: made.stdout.trim() };
  } catch (error) {
    return { why: (error as { stderr?: string }).stderr ?? String(error) };
  }
};

const found = await environment();
if ('why' in found) process.stderr.write(`The reference worker is not tested: ${found.why}\n`);
// In CI PyPI is reachable, so that its absence fails.
const isSkipped = 'why' in found && !process.env.CI;

describe.skipIf(isSkipped)('the reference worker', () => {
  let server: HandlerServer;
  beforeAll(async () => {
    if ('why' in found) throw new Error(found.why);
    const module = readFileSync(path.join(ROOT, 'python/tests/handlers/remote_call.py'), 'utf8');
    server = await startServer(
      `${module}\ndef dying(event, context):\n    import os\n    os._exit(3)\n`,
      (port) => [
        'env',
        'PYTHONPATH=.',
        path.join(found.place, 'bin/chalk-remote-call'),
        ...['--handler', 'model.handler', '--host', '127.0.0.1', '--port', String(port)],
      ],
    );
  });
  afterAll(() => server?.stop());
  const at = (name: string, output: FunctionSpec['output'] = INT) => server.replica(specOf(X, output, name));

  it.each(['doubled', 'listed', 'later'])('answers by %s', async (name) => {
    expect(valuesOf(await runBatch(await at(name), batchOf({ x: [1, 2, 3] })))).toEqual([2, 4, 6]);
  });

  it('answers in several columns, which become a struct', async () => {
    const type = { struct: [field('y', 'utf8'), field('x', 'int64')] };
    const answer = await runBatch(await at('columns', { type, nullable: true }), batchOf({ x: [1, 2] }));
    expect(valuesOf(answer)).toEqual([
      { y: '1', x: 1 },
      { y: '2', x: 2 },
    ]);
  });

  it.each(['items', 'later_items'])('answers item by item by %s', async (name) => {
    const answer = await runBatch(await at(name), batchOf({ x: [1, 2, 3] }));
    expect(valuesOf(answer)).toEqual([1, 2, 3]);
    if (answer.end === 'ok') expect(answer.outputs).toHaveLength(3);
  });

  it('tells exceptions, with what a generator yielded before', async () => {
    const failed = await runBatch(await at('failing'), batchOf({ x: [1] }));
    expect(failed).toMatchObject({
      end: 'error',
      error: { code: 'handler_error', kind: 'KeyError', message: "'né'" },
      mro: ['KeyError'],
    });
    if (failed.end === 'error') expect(failed.error.traceback).toMatch(/in failing/);
    const stopped = await runBatch(await at('items'), batchOf({ x: [1, -1] }));
    expect(stopped).toMatchObject({ end: 'error', error: { kind: 'ValueError', message: 'negative: -1' } });
    if (stopped.end === 'error') expect(stopped.outputs?.map(({ rows }) => rows)).toEqual([1]);
  });

  it('is a crash when it dies', async () => {
    const answer = await runBatch(await at('dying'), batchOf({ x: [1] }));
    expect(answer).toMatchObject({ end: 'crash', error: { code: 'handler_crashed' } });
    if (answer.end === 'crash') expect(answer.error.message).toMatch(/it left with code 3/);
  });
});

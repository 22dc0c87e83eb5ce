/** Rows that are too large for the server, in chunks of the SDK and of `sluice run`, and results of a run. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { streamToColumns } from '../../shared/arrow/index.ts';
import { type CommandResult, SluiceServer, temporaryDirectory } from '../support/sluice-process.ts';

const [NULL, LARGE] = [5, 7];
const TEXTS = Array.from({ length: 20 }, (_, row) => `text ${row}`).with(LARGE, 'x'.repeat(100_000));
const LENGTHS = TEXTS.map((text, row) => (row === NULL || row === LARGE ? null : text.length));
const ROWS = TEXTS.map((text, row) => ({ text: row === NULL ? null : text }));

let server: SluiceServer;
let client: Sluice;
const directory = temporaryDirectory();
const at = (name: string): string => path.join(directory, name);

beforeAll(async () => {
  server = await SluiceServer.start({ args: ['--body-bytes-max', '64KiB'] });
  await server.deploy('test/fixtures/functions/texts.ts');
  client = new Sluice({ url: server.url });
});
afterAll(async () => {
  await server?.dispose();
  rmSync(directory, { recursive: true });
});

it('are null in a chunked call where that is asked for, and only they', async () => {
  for (const chunkSize of [1, 5, 20]) {
    const { result, errors } = await client
      .function('length')
      .chunkedCall(ROWS, { chunkSize, onError: 'null' });
    expect(result).toEqual(LENGTHS);
    expect([...errors.keys()].sort()).toEqual([NULL, LARGE]);
    expect(errors.get(LARGE)!.code).toBe('payload_too_large');
  }
});

/** Runs the rows from a file of one text each. */
const run = (rows: readonly unknown[], ...options: readonly string[]): Promise<CommandResult> => {
  writeFileSync(at('in.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const files = ['--input', at('in.jsonl'), '--output', at('out.arrows')];
  return server.run(['run', '--function', 'length', ...files, ...options]);
};

it('are null in a run where that is asked for, and only they', async () => {
  for (const chunkSize of ['1', '5', '20']) {
    const { code, stdout } = await run(ROWS, '--chunk-size', chunkSize, '--on-error', 'null', '--json');
    expect([code, JSON.parse(stdout).rows_failed]).toEqual([0, 2]);
    const { result, error } = streamToColumns(new Uint8Array(readFileSync(at('out.arrows'))));
    expect(Array.from(result!)).toEqual(LENGTHS);
    const messages = Array.from(error!, (text) => text && JSON.parse(text as string).message);
    expect(messages[NULL]).toBe(`column "text" is not nullable, but row ${NULL} is null`);
    expect(messages[LARGE]).toContain('The body is larger than 65536 bytes');
    expect(messages.filter((message) => message !== null)).toHaveLength(2);
  }
});

it('end a run with the rows and the option to lower', async () => {
  const rows = TEXTS.map((text) => ({ text }));
  const why = 'is too large: The body is larger than 65536 bytes';
  const chunk = await run(rows, '--chunk-size', '4', '--concurrent-chunks', '1');
  expect(chunk.code).toBe(1);
  expect(chunk.stderr).toContain(`Chunk 1 (rows 4 to 7) ${why}`);
  expect(chunk.stderr).toContain('; lower --chunk-size, or go on without rows');
  const row = await run(rows, '--chunk-size', '1', '--concurrent-chunks', '1');
  expect(row.stderr).toContain(`Row 7 ${why}`);
  expect(row.stderr).toMatch(/Correct the row .* --on-error null/);
});

it('that a run has read are kept for minutes only', async () => {
  const { code } = await run(ROWS.slice(8), '--chunk-size', '6');
  expect(code).toBe(0);
  const { calls } = await client.calls({ function: 'length', limit: 2 });
  for (const { rows, finished_at, expires_at } of calls)
    expect([rows, Date.parse(expires_at!) - Date.parse(finished_at!) < 3_600_000]).toEqual([6, true]);
});

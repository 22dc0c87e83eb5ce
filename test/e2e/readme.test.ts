/**
 * Every command of the README is run, in its order, against one server, and after them those of a section of docs/MODELS.md,
 * which go on with what the README deployed; every code block is the example that it names.
 */
import { execFile } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { eventually, PYTHON, ROOT, SluiceServer } from '../support/sluice-process.ts';

type Block = { readonly language: string | undefined; readonly text: string };

const blocksOf = (page: string): Block[] =>
  [...page.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, language, text]) => ({ language, text: text! }));

const commandsOf = (blocks: readonly Block[]): string[] =>
  blocks.filter(({ language }) => language === 'bash').flatMap(({ text }) => text.trim().split('\n'));

const readme = readFileSync(path.join(ROOT, 'README.md'), 'utf8');
const blocks = blocksOf(readme);
const commands = commandsOf(blocks);
const models = readFileSync(path.join(ROOT, 'docs/MODELS.md'), 'utf8');
const sectionOf = (title: string): string => models.split(`\n## ${title}\n`)[1]!.split('\n## ')[0]!;
const answeredCommands = commandsOf(blocksOf(sectionOf('What a group was asked and answered')));
const evaluationCommands = commandsOf(blocksOf(sectionOf('Evaluate a model')));

/** Started by this test itself instead of by a shell. */
const SERVER = 'npx sluice dev';

const shell = (command: string, env: Record<string, string>): Promise<{ code: number; output: string }> =>
  new Promise((resolve) => {
    const options = { cwd: ROOT, env: { ...process.env, ...env }, maxBuffer: 2 ** 26 };
    execFile('bash', ['-c', command], options, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code ?? 1) : 0, output: stdout + stderr }),
    );
  });

describe('the README', () => {
  let server: SluiceServer;

  beforeAll(async () => {
    server = await SluiceServer.start();
  });

  afterAll(async () => {
    await server?.dispose();
    for (const file of ['shouted.parquet', 'houses.parquet', 'answered.parquet'])
      rmSync(path.join(ROOT, file), { force: true });
  });

  it('names the commands that this test knows', () => {
    expect(commands).toContain('make demo');
    expect(commands).toContain(SERVER);
    expect(commands.length).toBeGreaterThan(6);
  });

  const ok = async (command: string): Promise<string> => {
    const here = command.replaceAll('http://127.0.0.1:7700', server.url);
    // The demo embeds fewer rows here; it is the same demo.
    const { code, output } = await shell(here, {
      SLUICE_URL: server.url,
      SLUICE_PYTHON: PYTHON,
      DEMO_ROWS: '60',
    });
    expect(code, output).toBe(0);
    return output;
  };

  it.each(commands.filter((command) => command !== SERVER))('%s', async (command) => {
    const output = await ok(command);
    if (command.includes('/v1/embeddings')) expect(output).toMatch(/"embedding":\[-?\d/);
    if (command.includes('/v2/models/')) expect(output).toContain('"datatype":"FP32"');
    if (command.includes('/v1/functions/')) expect(output).toContain('"result":["A","B"]');
    if (command.startsWith('npx sluice call shout')) expect(output).toContain('A MAN IS EATING');
    if (command.startsWith('npx sluice call model.')) expect(output).toMatch(/\[\d+\.\d+/);
    if (command.includes('engine/deploy.py'))
      expect(output).toContain('500 prices through the queue, the same as here: True');
    if (command.includes('house_price.py')) expect(output).toContain('5000 prices, the same as here: True');
    if (command.startsWith('npx sluice groups show')) expect(output).toContain('ready');
    if (command.startsWith('npx sluice sql')) expect(output).toMatch(/price[\s\S]*\d{6}\./);
    if (command.includes('examples/quickstart/call')) expect(output).toMatch(/ONE[\s\S]*TWO/);
  });

  it('is followed by docs/MODELS.md with what a group was asked and answered', async () => {
    const { scalingGroups } = new Sluice({ url: server.url });
    const [update, call, list, query, write, compare, compared, end, ...more] = answeredCommands;
    expect(more).toEqual([]);
    expect(await ok(update!)).toContain('house-price-sg serves version');
    const [, price] = /^\[(.+)\]$/m.exec(await ok(call!))!;
    await eventually('a file', async () => (await scalingGroups.inferenceFiles('house-price-sg')).length > 0);
    expect(await ok(list!)).toMatch(/KEPT FOR[\s\S]*house_price[\s\S]*1 file, 1 row, /);
    expect(await ok(query!)).toContain(`"sqft","output","now"\n1200,${price},${price}\n`);
    expect(await ok(write!)).toMatch(/answered\.parquet: \d rows/);
    expect(await ok(compare!)).toMatch(/reference: .*\nwindow: {4}the last 10 min/);
    await eventually('figures', async () => (await scalingGroups.drift('house-price-sg')).figures);
    expect(await ok(compared!)).toMatch(/COLUMN +PSI +KS[\s\S]*input\.rooms[\s\S]*output/);
    expect(await ok(end!)).toContain('house-price-sg is compared no more.\n');
  });

  it('is followed by docs/MODELS.md with an evaluation', async () => {
    expect(evaluationCommands).toHaveLength(1);
    expect(await ok(evaluationCommands[0]!)).toMatch(/5,000 evaluated, 0 failed[\s\S]*r2 +0\.9/);
  });

  it.each([
    ['python', 'examples/quickstart/shout.py'],
    ['python', 'examples/quickstart/call.py'],
    ['ts', 'examples/quickstart/call.ts'],
  ])('shows a %s block that is %s', (language, file) => {
    const squeeze = (text: string): string => text.replace(/\n+/g, '\n').trim();
    const shown = blocks.filter((block) => block.language === language).map((block) => squeeze(block.text));
    expect(shown).toContain(squeeze(readFileSync(path.join(ROOT, file), 'utf8')));
  });

  it('shows a python block whose every line stands in examples/models/house-price/house_price.py', () => {
    const lines = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '');
    const block = blocks.find(({ text }) => text.includes('@model_handler'))!;
    const known = new Set(
      lines(readFileSync(path.join(ROOT, 'examples/models/house-price/house_price.py'), 'utf8')),
    );
    for (const line of lines(block.text)) expect(known).toContain(line);
  });

  it('points only to files that are there', () => {
    const targets = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, target]) => target!);
    expect(targets.length).toBeGreaterThan(8);
    for (const target of targets)
      expect(() => readFileSync(path.join(ROOT, target)), target).not.toThrow(/ENOENT/);
  });
});

/** `sluice models` and `sluice groups` as users run them, and the curated model on a CPU. */
import { execFile } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Deployment, PYTHON, ROOT, temporaryDirectory } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

const SOURCE = `
import sluice


@sluice.model_handler
class Scaled:
    def load_model(self):
        self.factor = int(self.files["factor.txt"].read_text())
        print(f"the factor is {self.factor}")

    def predict(self, df):
        return {"scaled": [value * self.factor for value in df.to_arrow()["value"].to_pylist()]}
`;

const OUTPUTS = [{ name: 'scaled', type: 'int64', nullable: true }];

const registration = (metadata: Record<string, string>) => ({
  inputs: [{ name: 'value', type: 'int64', nullable: false }],
  outputs: OUTPUTS,
  handler: { file: 'scaled.py', attribute: 'Scaled' },
  source: ['scaled.py'],
  files: ['factor.txt'],
  loader: { version: 1, files: ['factor.txt'], outputs: OUTPUTS },
  interpreter: PYTHON,
  metadata,
});

onEveryStore((store) => {
  describe('models on the command line', () => {
    let server: Deployment;
    const directory = temporaryDirectory();
    const at = (name: string): string => path.join(directory, name);
    const ok = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await server.run(args);
      expect([args, code, code === 0 ? '' : stderr]).toEqual([args, 0, '']);
      return stdout;
    };
    const register = async (factor: number): Promise<string> => {
      writeFileSync(at('factor.txt'), String(factor));
      writeFileSync(at('scaled.json'), JSON.stringify(registration({ factor: String(factor) })));
      return ok('models', 'register', 'scaled', at('scaled.json'));
    };

    beforeAll(async () => {
      server = await store.start();
      writeFileSync(at('scaled.py'), SOURCE);
    });
    afterAll(async () => {
      await server?.dispose();
      rmSync(directory, { recursive: true, force: true });
    });

    it('registers, shows, compares and marks versions', async () => {
      expect(await ok('models')).toContain('No models yet');
      expect(await register(2)).toBe('Version 1 of scaled is registered.\n');
      expect(await register(3)).toBe('Version 2 of scaled is registered.\n');
      expect(await ok('models')).toMatch(/scaled\s+2\s+2/);
      expect(await ok('models', 'alias', 'scaled', 'production', '1')).toBe(
        'production of scaled is version 1.\n',
      );
      expect(await ok('models', 'stage', 'scaled', '2', 'candidate')).toBe(
        'Version 2 of scaled is candidate.\n',
      );
      expect(await ok('models', 'versions', 'scaled')).toMatch(/2\s+-\s+candidate[\s\S]*1\s+production\s+-/);
      expect(await ok('models', 'show', 'scaled', 'production')).toContain('inputs:  value: int64\n');
      const shown = JSON.parse(await ok('models', 'show', 'scaled', '--json'));
      expect([shown.version, shown.files.length]).toEqual([2, 1]);
      const compared = await ok('models', 'compare', 'scaled', '1', '2');
      expect(compared).toContain('factor.txt: changed');
      expect(await ok('models', 'alias', 'scaled', 'old', '1')).toContain('version 1');
      expect(await ok('models', 'alias', 'scaled', 'old', '--remove')).toContain('no alias old');
    });

    it('deploys, calls, updates, scales, rolls back and deletes a group', async () => {
      const deployed = await ok(
        'groups',
        'deploy',
        'sg',
        '--model',
        'scaled',
        '--model-version',
        'production',
      );
      expect(deployed).toBe('sg serves version 1 of scaled as model.sg.\n');
      expect(await ok('call', 'model.sg', 'value=21')).toBe('[42]\n');
      expect(await ok('sql', "select catalog_call('model.sg', range) as s from range(3)")).toBe(
        '"s"\n0\n2\n4\n',
      );
      expect(await ok('groups', 'update', 'sg', '--model-version', '2')).toContain('serves version 2');
      expect(await ok('call', 'model.sg', 'value=21')).toBe('[63]\n');
      expect(await ok('groups')).toMatch(/sg\s+scaled\s+2\s+ready\s+1 of 1-1\s+process/);
      expect(await ok('groups', 'scale', 'sg', '--max-replicas', '2')).toBe('sg has 1 to 2 replicas.\n');
      expect(await ok('groups', 'show', 'sg')).toMatch(/state:\s+ready[\s\S]*pid \d+[\s\S]*deployed: /);
      expect(await ok('groups', 'logs', 'sg')).toContain('the factor is 3');
      const refused = await server.run(['models', 'delete', 'scaled', '2']);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('delete the group')]);
      expect(await ok('groups', 'rollback', 'sg')).toContain('serves version 1');
      expect(await ok('call', 'model.sg', 'value=21')).toBe('[42]\n');
      expect(await ok('groups', 'delete', 'sg')).toBe('sg is deleted.\n');
      expect(await ok('models', 'delete', 'scaled', '1')).toBe('Version 1 of scaled is deleted.\n');
      expect(await ok('models', 'delete', 'scaled')).toBe('scaled is deleted.\n');
    });

    it('says what a group runs without, and how a busy one is deleted', async () => {
      await register(5);
      const args = ['groups', 'deploy', 'busy', '--model', 'scaled', '--cpu', '1'];
      const deployed = await server.run(args);
      expect([deployed.code, deployed.stderr]).toEqual([
        0,
        expect.stringContaining('busy: cpu=1 sets thread counts here, it is no limit.\n'),
      ]);
      expect(await ok('groups', 'show', 'busy')).toMatch(/without:\s+cpu=1 sets thread counts/);
      expect(await ok('groups', 'inferences', 'busy')).toContain(
        'busy has no inference store; `sluice groups update',
      );
      const alone = await server.run(['groups', 'drift', 'busy']);
      expect([alone.code, alone.stderr]).toEqual([
        1,
        expect.stringContaining('compared with no reference. Set'),
      ]);
      await ok('pause', 'model.busy');
      await ok('call', 'model.busy', 'value=1', '--no-wait');
      const refused = await server.run(['groups', 'delete', 'busy']);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain('`sluice functions purge model.busy` cancels');
      expect(refused.stderr).toContain('`sluice groups delete busy --force`');
      expect(await ok('groups', 'delete', 'busy', '--force')).toBe('busy is deleted.\n');
    });

    it('says why a group does not become ready', async () => {
      writeFileSync(at('factor.txt'), 'no number');
      writeFileSync(at('broken.json'), JSON.stringify(registration({})));
      await ok('models', 'register', 'broken', at('broken.json'));
      const { code, stderr } = await server.run(['groups', 'deploy', 'broken', '--model', 'broken']);
      expect([code, stderr]).toEqual([1, expect.stringMatching(/cannot serve: [\s\S]*no number/)]);
      await ok('groups', 'delete', 'broken', '--force');
    });

    it('says what is wrong in a sentence', async () => {
      writeFileSync(at('text.json'), 'no JSON');
      writeFileSync(at('outside.json'), JSON.stringify({ ...registration({}), files: ['../factor.txt'] }));
      const cases: [string[], number, string][] = [
        [['models', 'show', 'nothing'], 1, 'There is no model "nothing"'],
        [['models', 'register', 'm', at('text.json')], 2, 'is not JSON'],
        [['models', 'register', 'm', at('outside.json')], 2, '"files" has "../factor.txt"'],
        [['models', 'add', 'nothing'], 2, '"nothing" is not in the catalog, which has all-minilm-l6-v2'],
        [['groups', 'show', 'nothing'], 1, 'There is no scaling group "nothing"'],
        [['groups', 'scale', 'nothing'], 2, 'Give what to change'],
        [['groups', 'inferences', 'nothing'], 1, 'There is no scaling group "nothing"'],
        [
          ['groups', 'inferences', 'nothing', '--output', 'a.parquet'],
          1,
          'There is no scaling group "nothing"',
        ],
        [['groups', 'inferences', 'nothing', '--from', 'monday'], 2, '--from is monday; give a time such as'],
        [
          ['groups', 'inferences', 'nothing', '--output', 'a.xlsx'],
          2,
          '--output is a.xlsx; its name must end',
        ],
        [['groups', 'drift', 'nothing'], 1, 'There is no scaling group "nothing"'],
        [['groups', 'drift', 'nothing', '--end', '--window', '1h'], 2, '--end goes without'],
        [['groups', 'deploy', 'g', '--model', 'm', '--memory', '2Q'], 2, '--memory is 2Q; give bytes'],
        [
          ['groups', 'deploy', 'g', '--model', 'm', '--backend', 'vm'],
          2,
          '--backend is vm; give one of process',
        ],
        [['groups', 'deploy', 'g', '--model', 'm', '--env', 'A'], 2, '--env A is not NAME=value'],
        [['groups', 'deploy', 'g', '--model', 'm', '--gpu', 'many:0'], 1, 'gpu'],
      ];
      for (const [args, code, message] of cases) {
        const result = await server.run(args);
        expect([args, result.code, result.stderr]).toEqual([args, code, expect.stringContaining(message)]);
      }
    });

    it('adds the curated embedding model, whose vectors are those of the example', async () => {
      expect(await ok('models', 'catalog')).toMatch(/all-minilm-l6-v2\s+cpu, gpu\s+text: utf8\s+Apache-2.0/);
      const added = await server.run(['models', 'add', 'all-minilm-l6-v2', '--group', 'texts']);
      expect([added.code, added.code === 0 ? '' : added.stderr]).toEqual([0, '']);
      expect(added.stdout).toContain('model.texts is ready');
      const texts = ['A man is eating food.', 'A monkey is playing drums.', '', 'word '.repeat(400)];
      const answer = await ok('call', 'model.texts', '--json', JSON.stringify(texts));
      const code =
        'import json, sys; sys.path.insert(0, "examples/minilm"); import embed; ' +
        'print(json.dumps(embed.model().encode(json.loads(sys.argv[1])).tolist()))';
      const local = await promisify(execFile)(PYTHON, ['-c', code, JSON.stringify(texts)], {
        cwd: ROOT,
        maxBuffer: 2 ** 24,
      });
      const expected = JSON.parse(local.stdout) as number[][];
      const found = JSON.parse(answer) as number[][];
      expect(found.map((vector) => vector.length)).toEqual([384, 384, 384, 384]);
      found.forEach((vector, row) => {
        vector.forEach((value, i) => {
          expect(value).toBeCloseTo(expected[row]![i]!, 5);
        });
      });
      const again = await server.run(['models', 'add', 'all-minilm-l6-v2', '--group', 'texts']);
      expect(again.stderr).toContain('all-minilm-l6-v2 (cpu) is version 1\n');
    });

    it('serves the small language model of the example', async () => {
      const { stdout } = await promisify(execFile)(PYTHON, ['examples/llm/deploy.py', '--rows', '300'], {
        cwd: ROOT,
        env: { ...process.env, ...server.env() },
      });
      expect(stdout).toBe('model.llm is ready\n');
      const row = ['prompt=Return a list', 'max_tokens=30', 'temperature=0', 'seed=1'];
      const [text] = JSON.parse(await ok('call', 'model.llm', ...row)) as [string];
      expect(text).toHaveLength(30);
      const query = "select catalog_call('model.llm', 'Return a list', 30, 0.0, 1) as text";
      expect(JSON.parse(await ok('sql', '--format', 'json', query))).toEqual([{ text }]);
    });
  });
});

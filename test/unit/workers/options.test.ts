/** What reaches a handler's environment, and what is said about options that do not. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { FunctionSpec, ImageStep } from '../../../shared/domain/function.ts';
import { GpuDevices, gpuCount } from '../../../workers/gpu-devices.ts';
import { ignoredOptions } from '../../../workers/honoured-options.ts';
import { interpreterOf } from '../../../workers/python/launch.ts';
import { environmentInterpreter, pipArguments } from '../../../workers/python/virtual-environment.ts';
import { SourceDirectory } from '../../../workers/source-directory.ts';
import { nodeSpec } from './rig.ts';

const specWith = (steps: readonly ImageStep[], changes: Partial<FunctionSpec> = {}): FunctionSpec => ({
  ...nodeSpec(''),
  runtime: 'python',
  environment: { base: null, steps, env: {}, isolated: true, interpreter: null },
  ...changes,
});

describe('pip steps', () => {
  it.each([
    ['pip install torch numpy', ['torch', 'numpy']],
    ['python -m pip install "torch>=2,<3"', ['torch>=2,<3']],
    [
      "  pip3 install --index-url https://example.org/simple 'a b'",
      ['--index-url', 'https://example.org/simple', 'a b'],
    ],
  ])('are found in %s', (run, args) => {
    expect(pipArguments({ run })).toEqual(args);
  });

  it.each([
    'apt-get install ffmpeg',
    'pip install a && rm -rf /',
    'pip install a>=2',
    'pip install $(cat list)',
    'pip freeze',
  ])('are not guessed in %s', (run) => {
    expect(pipArguments({ run })).toBeNull();
  });
});

describe('options', () => {
  it('are said when they cannot be honoured, and refused where they bind', () => {
    const spec = specWith([{ apt_install: ['ffmpeg'] }, { run: 'make' }, { pip_install: ['numpy'] }], {
      resources: { cpu: 2, memoryBytes: null, gpu: 'nvidia-l4' },
    });
    expect(ignoredOptions(spec, 0).map(({ text, isBinding }) => [text.split(':')[0], isBinding])).toEqual([
      ['gpu="nvidia-l4"', true],
      ['cpu=2', false],
      ['apt_install ffmpeg', true],
      ['run "make"', true],
    ]);
    expect(ignoredOptions(spec, 1).some(({ text }) => text.startsWith('gpu'))).toBe(false);
  });

  it('tell a pip step that the interpreter must already satisfy', () => {
    const steps = [{ pip_install: ['numpy'] }];
    const spec = specWith(steps, {
      environment: { base: null, steps, env: {}, isolated: false, interpreter: null },
    });
    expect(ignoredOptions(spec, 0)).toMatchObject([{ isBinding: false }]);
    expect(ignoredOptions({ ...spec, runtime: 'node' }, 0)).toMatchObject([{ isBinding: true }]);
  });
});

describe('devices', () => {
  it('are handed out evenly and shared last', () => {
    const devices = new GpuDevices(2);
    expect([devices.take(1), devices.take(1), devices.take(1)]).toEqual([[0], [1], [0]]);
    devices.giveBack([1]);
    expect(devices.take(1)).toEqual([1]);
    expect(gpuCount('/no/such/directory')).toBe(0);
  });
});

describe('sources', () => {
  const file = (name: string) => ({ path: name, content: Buffer.from('x = 1').toString('base64') });
  const version = (spec: FunctionSpec) => ({ id: 1, digest: 'abc', createdAt: 0, spec });

  it('lie in a folder of their version, which goes at the end', async () => {
    const sources = new SourceDirectory();
    const spec = { ...nodeSpec(''), source: [file('a.py'), file('pkg/b.py')] };
    const folder = await sources.of(version(spec));
    expect(await readFile(path.join(folder, 'pkg/b.py'), 'utf8')).toBe('x = 1');
    expect(await sources.of(version(spec))).toBe(folder);
    await sources.remove();
    await sources.remove();
    await expect(stat(folder)).rejects.toThrow(/ENOENT/);
  });

  it('never leave their folder', async () => {
    const sources = new SourceDirectory();
    onTestFinished(() => sources.remove());
    const spec = { ...nodeSpec(''), source: [file('../../escape.py')] };
    await expect(sources.of(version(spec))).rejects.toMatchObject({ code: 'invalid_function' });
  });
});

describe('interpreters', () => {
  it('are the deploy’s where this machine has it, else the server’s', () => {
    const deployed = (interpreter: string) =>
      specWith([], { environment: { base: null, steps: [], env: {}, isolated: false, interpreter } });
    expect(interpreterOf(deployed(process.execPath), 'mine')).toBe(process.execPath);
    expect(interpreterOf(deployed('/no/such/python'), 'mine')).toBe('mine');
    expect(interpreterOf(deployed('/no/such/python'), null)).toBe('python3');
  });

  it('of an isolated function say which command failed', async () => {
    const root = await mkdtemp(path.join(tmpdir(), 'sluice-environments-'));
    onTestFinished(() => rm(root, { recursive: true, force: true }));
    const lines: string[] = [];
    const build = environmentInterpreter({
      spec: specWith([]),
      interpreter: process.execPath,
      root,
      env: {},
      onLine: (text) => lines.push(text),
      signal: new AbortController().signal,
    });
    await expect(build).rejects.toThrow(/ended with code 9\n.*bad option: -m/);
    expect(lines[0]).toMatch(/^\$ .*-m venv/);
  });

  // Needs a package index: `SLUICE_TEST_NETWORK=1`.
  it.runIf(process.env.SLUICE_TEST_NETWORK)(
    'of an isolated function have its packages and ours',
    async () => {
      const root = await mkdtemp(path.join(tmpdir(), 'sluice-environments-'));
      onTestFinished(() => rm(root, { recursive: true, force: true }));
      const python = await environmentInterpreter({
        spec: specWith([{ run: 'pip install iniconfig' }]),
        interpreter: 'python3',
        root,
        env: process.env as Record<string, string>,
        onLine: () => undefined,
        signal: new AbortController().signal,
      });
      const program = 'import iniconfig, sluice; print(sluice.__file__)';
      expect(execFileSync(python, ['-c', program], { encoding: 'utf8' })).toContain(root);
    },
  );
});

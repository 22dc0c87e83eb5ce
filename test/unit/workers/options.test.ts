/** What reaches a handler's environment, and what is said about options that do not. */
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { FunctionSpec, ImageStep } from '../../../shared/domain/function.ts';
import type { Machine } from '../../../workers/backend.ts';
import { GpuDevices, gpuCount, gpuNames, isOfType } from '../../../workers/gpu-devices.ts';
import { ignoredGpu, ignoredOptions } from '../../../workers/honoured-options.ts';
import { Environments } from '../../../workers/python/environments.ts';
import { interpreterOf } from '../../../workers/python/launch.ts';
import { pipArguments } from '../../../workers/python/virtual-environment.ts';
import { SourceDirectory } from '../../../workers/source-directory.ts';
import { eventually } from '../../support/sluice-process.ts';
import { nodeSpec } from './rig.ts';

const specWith = (steps: readonly ImageStep[], changes: Partial<FunctionSpec> = {}): FunctionSpec => ({
  ...nodeSpec(''),
  runtime: 'python',
  environment: { base: null, steps, env: {}, isolated: true, interpreter: null },
  ...changes,
});

const NO_GPU: Machine = { gpus: 0, memoryBytes: 2 ** 33 };

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
    expect(
      ignoredOptions(spec, NO_GPU).map(({ text, isBinding }) => [text.split(':')[0], isBinding]),
    ).toEqual([
      ['gpu="nvidia-l4"', true],
      ['cpu=2 sets thread counts here, it is no limit', false],
      ['apt_install ffmpeg', true],
      ['run "make"', true],
    ]);
    expect(
      ignoredOptions(spec, { ...NO_GPU, gpus: 1, gpuNames: ['NVIDIA L4'] }).some(({ text }) =>
        text.startsWith('gpu'),
      ),
    ).toBe(false);
  });

  it('tell a pip step that the interpreter must already satisfy', () => {
    const steps = [{ pip_install: ['numpy'] }];
    const spec = specWith(steps, {
      environment: { base: null, steps, env: {}, isolated: false, interpreter: null },
    });
    expect(ignoredOptions(spec, NO_GPU)).toMatchObject([{ isBinding: false }]);
    expect(ignoredOptions({ ...spec, runtime: 'node' }, NO_GPU)).toMatchObject([{ isBinding: true }]);
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

  it('are a replica’s own where it asks for several', () => {
    const devices = new GpuDevices(4);
    const shared = devices.take(1);
    const own = devices.take(2);
    expect([shared, own]).toEqual([[0], [1, 2]]);
    expect(() => devices.take(2)).toThrow(/needs 2 of the 4 GPUs of this machine for itself, and 1 are free/);
    expect([devices.take(1), devices.take(1)]).toEqual([[3], [0]]);
    devices.giveBack(own);
    expect(devices.take(2)).toEqual([1, 2]);
    expect(new GpuDevices(2).take(2)).toEqual([0, 1]);
  });

  it.each([
    ['nvidia-tesla-t4', 'Tesla T4', true],
    ['nvidia-l4', 'NVIDIA L4', true],
    ['nvidia-l4', 'NVIDIA L40S', false],
    ['nvidia-a100-80gb', 'NVIDIA A100-SXM4-80GB', true],
    ['nvidia-h100-80gb', 'NVIDIA H100 PCIe', true],
    ['gpu', 'NVIDIA L4', true],
    ['nvidia-h100', 'NVIDIA GeForce RTX 4090', false],
  ])('of the type %s are those named %s: %s', (type, name, isSame) => {
    expect(isOfType(type, name)).toBe(isSame);
  });

  it('are counted and compared with what is asked for', () => {
    const of = (gpu: string | null, changes: Partial<Machine>) => {
      const found = ignoredGpu(gpu, { ...NO_GPU, ...changes });
      return found && [found.isBinding, found.text];
    };
    const two = { gpus: 2, gpuNames: ['NVIDIA L4', 'NVIDIA L4'] };
    expect(of(null, {})).toBeNull();
    expect(of('nvidia-l4:2', two)).toBeNull();
    expect(of('nvidia-l4:3', two)).toEqual([true, 'gpu="nvidia-l4:3": this machine has 2 NVIDIA devices']);
    expect(of('nvidia-t4', two)).toEqual([true, 'gpu="nvidia-t4": this machine has NVIDIA L4']);
    expect(of('nvidia-t4', { gpus: 1 })).toEqual([
      false,
      expect.stringMatching(/nothing here tells the type/),
    ]);
    expect(of('any', { gpus: 1 })).toBeNull();
  });

  it('tell their names by the driver’s files, or its program, or not at all', async () => {
    const root = await mkdtemp(path.join(tmpdir(), 'sluice-gpus-'));
    onTestFinished(() => rm(root, { recursive: true, force: true }));
    const gpus = path.join(root, 'gpus');
    await mkdir(path.join(gpus, '0000:01:00.0'), { recursive: true });
    await writeFile(
      path.join(gpus, '0000:01:00.0', 'information'),
      'Model: \t\t NVIDIA L4\nIRQ:   \t\t 51\n',
    );
    const program = path.join(root, 'smi');
    await writeFile(program, '#!/bin/sh\necho Tesla T4\n', { mode: 0o755 });
    expect(gpuNames(gpus, '/no/such/program')).toEqual(['NVIDIA L4']);
    expect(gpuNames('/no/such/directory', program)).toEqual(['Tesla T4']);
    expect(gpuNames('/no/such/directory', '/no/such/program')).toEqual([]);
  });
});

describe('sources', () => {
  const file = (name: string) => ({ path: name, content: Buffer.from('x = 1').toString('base64') });
  const version = (spec: FunctionSpec) => ({ id: 1, digest: 'abc', createdAt: 0, spec });

  it('lie in a folder of their version, which goes at the end', async () => {
    const sources = new SourceDirectory();
    const spec = { ...nodeSpec(''), source: [file('a.py'), file('pkg/b.py')] };
    const { directory: folder } = await sources.take(version(spec));
    expect(await readFile(path.join(folder, 'pkg/b.py'), 'utf8')).toBe('x = 1');
    expect((await sources.take(version(spec))).directory).toBe(folder);
    await sources.remove();
    await sources.remove();
    await expect(stat(folder)).rejects.toThrow(/ENOENT/);
  });

  it('go a minute after the last replica of their version, and no sooner', async () => {
    const sources = new SourceDirectory();
    onTestFinished(() => sources.remove());
    const taken = version({ ...nodeSpec(''), source: [file('a.py')] });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const [first, second] = [await sources.take(taken), await sources.take(taken)];
    first.giveBack();
    first.giveBack();
    vi.advanceTimersByTime(60_000);
    expect(await readFile(path.join(second.directory, 'a.py'), 'utf8')).toBe('x = 1');
    second.giveBack();
    vi.advanceTimersByTime(59_000);
    const third = await sources.take(taken);
    vi.advanceTimersByTime(60_000);
    expect(third.directory).toBe(first.directory);
    third.giveBack();
    vi.advanceTimersByTime(60_000);
    const fourth = await sources.take(taken);
    vi.useRealTimers();
    expect(fourth.directory).not.toBe(first.directory);
    await eventually('its folder is gone', () =>
      stat(first.directory).then(
        () => false,
        () => true,
      ),
    );
  });

  it('of workers that were killed go, and nothing that only looks like them', async () => {
    const named = (pid: number, end: string): string =>
      path.join(tmpdir(), `sluice-source-${hostname()}-${pid}-${end}-${process.pid}`);
    // No process has a number above the kernel's limit. In a container the one before had our own.
    const [dead, before, link] = [
      named(999_999_999, 'dead'),
      named(process.pid, 'before'),
      named(999_999_999, 'link'),
    ];
    const elsewhere = await mkdtemp(path.join(tmpdir(), 'sluice-elsewhere-'));
    onTestFinished(() =>
      Promise.all([elsewhere, link].map((one) => rm(one, { recursive: true, force: true }))).then(
        () => undefined,
      ),
    );
    await chmod(elsewhere, 0o700);
    for (const one of [dead, before]) await mkdir(path.join(one, 'inner'), { recursive: true });
    await utimes(before, 0, 0);
    await symlink(elsewhere, link);
    const [first, second] = [new SourceDirectory(), new SourceDirectory()];
    onTestFinished(async () => {
      await first.remove();
      await second.remove();
    });
    const spec = { ...nodeSpec(''), source: [file('a.py')] };
    const { directory: folder } = await first.take(version(spec));
    await second.take(version(spec));
    await expect(stat(dead)).rejects.toThrow(/ENOENT/);
    await expect(stat(before)).rejects.toThrow(/ENOENT/);
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
    expect((await stat(elsewhere)).mode & 0o777).toBe(0o700);
    expect(await readFile(path.join(folder, 'a.py'), 'utf8')).toBe('x = 1');
  });

  it('never leave their folder', async () => {
    const sources = new SourceDirectory();
    onTestFinished(() => sources.remove());
    const spec = { ...nodeSpec(''), source: [file('../../escape.py')] };
    await expect(sources.take(version(spec))).rejects.toMatchObject({ code: 'invalid_function' });
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
    const build = new Environments({ root, bytesMax: 2 ** 40 }).take({
      spec: specWith([]),
      interpreter: process.execPath,
      env: {},
      onLine: (text) => lines.push(text),
      signal: new AbortController().signal,
    });
    await expect(build).rejects.toThrow(/ended with code 9\n.*bad option: -m/);
    expect(lines[0]).toMatch(/^\$ .*-m venv/);
  });
});

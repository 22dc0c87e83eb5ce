/** Virtual environments, made by a program in place of an interpreter whose packages are files of a size. */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { FunctionSpec } from '../../../shared/domain/function.ts';
import { Environments } from '../../../workers/python/environments.ts';
import { eventually } from '../../support/sluice-process.ts';
import { nodeSpec, Rig } from './rig.ts';

const ENVIRONMENT_BYTES = 100_000;

/** `-m venv DIR` copies itself there; `pip install gate` notes its process and waits at the gate. */
const INTERPRETER = `#!/bin/sh
here=$(dirname "$0")
if [ "$2" = venv ]; then
  echo venv >> "$here/built"
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$here" > "$3/bin/home"
  head -c ${ENVIRONMENT_BYTES} /dev/zero > "$3/package"
  exit 0
fi
home=$(cat "$here/home")
for last; do :; done
case "$last" in
  gate) sh -c 'echo $$ > "$0/pid.new" && mv "$0/pid.new" "$0/pid"; cat "$0/gate"' "$home" ;;
  broken) echo no such package; exit 3 ;;
esac
`;

const scene = async () => {
  const home = await mkdtemp(path.join(tmpdir(), 'sluice-environments-'));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  const interpreter = path.join(home, 'python');
  await writeFile(interpreter, INTERPRETER, { mode: 0o755 });
  execFileSync('mkfifo', [path.join(home, 'gate')]);
  return { home, interpreter, root: path.join(home, 'environments') };
};

const isolated = (name: string): FunctionSpec => {
  const steps = [{ pip_install: [name] }];
  const environment = { base: null, steps, env: {}, isolated: true, interpreter: null };
  return nodeSpec('', { runtime: 'python', environment });
};

const taker = (environments: Environments, interpreter: string) => (name: string, signal?: AbortSignal) =>
  environments.take({
    ...{ spec: isolated(name), interpreter, onLine: () => undefined },
    env: { PATH: process.env.PATH! },
    signal: signal ?? new AbortController().signal,
  });

const directoryOf = (python: string): string => path.dirname(path.dirname(python));
const isThere = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false,
  );
const pidOf = (home: string): Promise<number> =>
  eventually('the build is at the gate', async () => Number(await readFile(path.join(home, 'pid'), 'utf8')));
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('virtual environments', () => {
  it('make room by what was not used for longest, and never by what is used', async () => {
    const { interpreter, root } = await scene();
    const take = taker(new Environments({ root, bytesMax: 2.5 * ENVIRONMENT_BYTES }), interpreter);
    const old = await take('old');
    const used = await take('used');
    old.giveBack();
    // The one in use was asked for long before the other.
    await utimes(path.join(directoryOf(used.interpreter), 'complete'), 1, 1);
    const next = await take('next');
    expect(await isThere(old.interpreter)).toBe(false);
    const more = await take('more');
    for (const { interpreter } of [used, next, more]) expect(await isThere(interpreter)).toBe(true);
    used.giveBack();
    used.giveBack();
    next.giveBack();
    await utimes(path.join(directoryOf(next.interpreter), 'complete'), 2, 2);
    await take('last');
    expect(await isThere(next.interpreter)).toBe(false);
    expect(await isThere(used.interpreter)).toBe(false);
    expect(await isThere(more.interpreter)).toBe(true);
    expect((await take('old')).interpreter).toBe(old.interpreter);
    expect((await readdir(root)).filter((name) => name.includes('going'))).toEqual([]);
  });

  it('that another process uses stay as long as it lives', async () => {
    const { interpreter, root } = await scene();
    const take = taker(new Environments({ root, bytesMax: 1 }), interpreter);
    const first = await take('first');
    const name = path.basename(directoryOf(first.interpreter));
    const mark = (host: string, pid: number): string => path.join(root, 'users', `${name}~${host}~${pid}`);
    first.giveBack();
    const [here, elsewhere] = [mark(hostname(), process.ppid), mark('elsewhere', 1)];
    for (const one of [here, elsewhere]) {
      await writeFile(one, '');
      (await take('other')).giveBack();
      expect(await isThere(first.interpreter)).toBe(true);
      await rm(one);
      await rm(path.join(root, 'other'), { recursive: true, force: true });
    }
    await mkdir(path.dirname(here), { recursive: true });
    for (const one of [mark(hostname(), 999_999_999), elsewhere]) await writeFile(one, '');
    await utimes(elsewhere, 1, 1);
    (await take('another')).giveBack();
    expect(await isThere(first.interpreter)).toBe(false);
    expect(await isThere(elsewhere)).toBe(false);
  });

  it('that another process took while room was made stay', async () => {
    const { interpreter, root } = await scene();
    const take = taker(new Environments({ root, bytesMax: 1 }), interpreter);
    const other = taker(new Environments({ root, bytesMax: 2 ** 30 }), interpreter);
    (await other('old')).giveBack();
    // One whose bytes cannot be read until the test says them.
    const slow = path.join(root, '0123456789abcdef');
    await mkdir(slow);
    execFileSync('mkfifo', [path.join(slow, 'complete')]);
    const next = take('next');
    const answer = await open(path.join(slow, 'complete'), 'w');
    const used = await other('old');
    await answer.write('1');
    await answer.close();
    expect(await isThere((await next).interpreter)).toBe(true);
    expect(await isThere(slow)).toBe(false);
    expect(await isThere(used.interpreter)).toBe(true);
  });

  it('are built by one of the workers that want them at the same time', async () => {
    const { home, interpreter, root } = await scene();
    const [first, second] = [1, 2].map(() =>
      taker(new Environments({ root, bytesMax: 2 ** 30 }), interpreter),
    );
    const taken = [first!('gate')];
    const pid = await pidOf(home);
    const gone = new AbortController();
    const left = second!('gate', gone.signal);
    taken.push(second!('gate'));
    gone.abort(new Error('not wanted'));
    await expect(left).rejects.toThrow('not wanted');
    expect(isAlive(pid)).toBe(true);
    await writeFile(path.join(home, 'gate'), 'x');
    for (const one of await Promise.all(taken)) expect(await isThere(one.interpreter)).toBe(true);
    expect(await readFile(path.join(home, 'built'), 'utf8')).toBe('venv\n');
  });

  it('that a dead worker was building are built anew', async () => {
    const { interpreter, root } = await scene();
    const take = taker(new Environments({ root, bytesMax: 2 ** 30 }), interpreter);
    const first = await take('first');
    const directory = directoryOf(first.interpreter);
    await rm(path.join(directory, 'complete'));
    first.giveBack();
    const claim = path.join(root, 'users', `${path.basename(directory)}.builder`);
    await writeFile(claim, `${hostname()}~999999999`);
    expect(await isThere((await take('first')).interpreter)).toBe(true);
    expect(await isThere(claim)).toBe(false);
  });

  it('are not built for who left while it was looked for them', async () => {
    const { home, interpreter, root } = await scene();
    const take = taker(new Environments({ root, bytesMax: 2 ** 30 }), interpreter);
    const leaving = new AbortController();
    const { signal } = leaving;
    signal.throwIfAborted = () => {
      AbortSignal.prototype.throwIfAborted.call(signal);
      queueMicrotask(() => leaving.abort(new Error('not wanted')));
    };
    await expect(take('gate', signal)).rejects.toThrow('not wanted');
    expect(await isThere(path.join(home, 'built'))).toBe(false);
  });

  it('that cannot be built say why, and leave nothing', async () => {
    const { interpreter, root } = await scene();
    const take = taker(new Environments({ root, bytesMax: 2 ** 30 }), interpreter);
    await expect(take('broken')).rejects.toThrow(/ended with code 3\nno such package/);
    expect(await readdir(root)).toEqual(['users']);
    expect(await readdir(path.join(root, 'users'))).toEqual([]);
  });

  it('are built on for who still waits, and end with the last one', async () => {
    const { home, interpreter, root } = await scene();
    const take = taker(new Environments({ root, bytesMax: 2 ** 30 }), interpreter);
    const [one, two] = [new AbortController(), new AbortController()];
    const [left, stayed] = [take('gate', one.signal), take('gate', two.signal)];
    const pid = await pidOf(home);
    one.abort(new Error('not wanted'));
    await expect(left).rejects.toThrow('not wanted');
    expect(isAlive(pid)).toBe(true);
    two.abort(new Error('not wanted either'));
    const again = take('gate');
    await expect(stayed).rejects.toThrow('not wanted either');
    await eventually('what pip started has ended', async () => !isAlive(pid));
    await eventually('it is built anew', async () => (await pidOf(home)) !== pid);
    await writeFile(path.join(home, 'gate'), 'x');
    expect(await isThere((await again).interpreter)).toBe(true);
  });

  it('of a function that is deleted are not built any more', async () => {
    const { home, interpreter, root } = await scene();
    const rig = await Rig.open({ pythonDefault: interpreter, environmentsDirectory: root });
    await rig.deploy(isolated('gate'));
    const pid = await pidOf(home);
    expect(await rig.store.registry.remove('f')).toBe(true);
    await eventually('the build has ended', async () => !isAlive(pid));
    await eventually('nothing is left of it', async () => (await readdir(root)).join() === 'users');
  });
});

/**
 * The virtual environments of a machine's isolated functions: built once, shared by replicas and kept between starts of the
 * server, within a limit of bytes. What was not used for longest makes room; what a replica uses stays, also one of another
 * server's that keeps its environments in the same place.
 */
import { rmSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isAlive, STARTED_AT } from '../own-directory.ts';
import { claimBuild } from './build-claim.ts';
import {
  type BuildOptions,
  buildEnvironment,
  environmentName,
  interpreterIn,
} from './virtual-environment.ts';

const HOUR_MS = 3_600_000;
/** What another machine says of its use holds for so long; it says it again each hour. */
const OTHERS_MS = 24 * HOUR_MS;
const NAME = /^[0-9a-f]{16}$/;
/** How often it is looked whether another worker's build is over. */
const BUILT_ELSEWHERE_MS = 500;
/** What a trim that was cut off has left is removed by others then. */
const GOING_MS = HOUR_MS;

export type EnvironmentsOptions = {
  readonly root: string;
  /** Of all environments that nobody uses, and those that are used as far as they leave room. */
  readonly bytesMax: number;
};

export type EnvironmentRequest = Omit<BuildOptions, 'root'>;

export type Environment = {
  readonly interpreter: string;
  /** Safe to call twice. */
  giveBack(): void;
};

type Build = {
  readonly controller: AbortController;
  readonly made: Promise<void>;
  /** When its processes are gone, whatever became of it. */
  readonly over: Promise<void>;
  waiters: number;
};

type Kept = { readonly name: string; readonly bytes: number; readonly usedAt: number };

export class Environments {
  readonly #options: EnvironmentsOptions;
  readonly #building = new Map<string, Build>();
  /** Replicas of this worker by environment. */
  readonly #users = new Map<string, number>();
  #refreshing: NodeJS.Timeout | undefined;
  #trimming: Promise<void> = Promise.resolve();

  constructor(options: EnvironmentsOptions) {
    this.#options = options;
  }

  /** Builds it when it is not there. Rejects with the failed command and its last lines, or with the signal's reason. */
  async take(request: EnvironmentRequest): Promise<Environment> {
    const name = environmentName(request);
    // Marked first, so that nobody takes it away once it was found complete.
    await this.#use(name);
    let isGivenBack = false;
    const giveBack = (): void => {
      if (!isGivenBack) this.#leave(name);
      isGivenBack = true;
    };
    try {
      await this.#ready(name, request);
      return { interpreter: interpreterIn(this.#directory(name)), giveBack };
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  #directory(name: string): string {
    return join(this.#options.root, name);
  }

  #complete(name: string): string {
    return join(this.#directory(name), 'complete');
  }

  async #ready(name: string, request: EnvironmentRequest): Promise<void> {
    for (;;) {
      request.signal.throwIfAborted();
      if (await this.#touch(name)) return;
      request.signal.throwIfAborted();
      const build = this.#building.get(name) ?? this.#begin(name, request);
      // One that nobody waited for any more leaves first.
      if (build.controller.signal.aborted) await build.over;
      else return this.#wait(build, request.signal);
    }
  }

  /** One build at a time for each environment, however many replicas ask. */
  #begin(name: string, request: EnvironmentRequest): Build {
    const controller = new AbortController();
    const made = this.#build(name, request, controller.signal)
      .then(() => this.#trim())
      .finally(() => this.#building.delete(name));
    const over = made.catch(() => undefined);
    const build = { controller, made, over, waiters: 0 };
    this.#building.set(name, build);
    return build;
  }

  /** Or waits for another worker of the machine that builds it. */
  async #build(name: string, request: EnvironmentRequest, signal: AbortSignal): Promise<void> {
    const { root } = this.#options;
    for (;;) {
      const giveBack = await claimBuild(join(root, 'users', `${name}.builder`), isUse);
      try {
        if (await this.#touch(name)) return;
        if (giveBack) return await buildEnvironment(this.#directory(name), { ...request, root, signal });
      } finally {
        await giveBack?.();
      }
      await pause(BUILT_ELSEWHERE_MS, undefined, { signal });
    }
  }

  /** A build goes on as long as somebody waits for it. */
  async #wait(build: Build, signal: AbortSignal): Promise<void> {
    const stopped = Promise.withResolvers<never>();
    const stop = (): void => stopped.reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    build.waiters += 1;
    try {
      await Promise.race([build.made, stopped.promise]);
    } finally {
      signal.removeEventListener('abort', stop);
      build.waiters -= 1;
      if (build.waiters === 0 && signal.aborted) {
        build.controller.abort(signal.reason);
        await build.over;
      }
    }
  }

  /** Notes that it is used now; false: it is not there. */
  #touch(name: string): Promise<boolean> {
    const now = new Date();
    return utimes(this.#complete(name), now, now).then(
      () => true,
      () => false,
    );
  }

  #mark(name: string): string {
    return join(this.#options.root, 'users', `${name}~${hostname()}~${process.pid}`);
  }

  async #use(name: string): Promise<void> {
    const users = this.#users.get(name) ?? 0;
    this.#users.set(name, users + 1);
    this.#refreshing ??= setInterval(() => this.#refresh(), HOUR_MS).unref();
    await mkdir(join(this.#options.root, 'users'), { recursive: true, mode: 0o700 });
    await writeFile(this.#mark(name), '');
  }

  #leave(name: string): void {
    const users = this.#users.get(name)! - 1;
    if (users > 0) {
      this.#users.set(name, users);
      return;
    }
    this.#users.delete(name);
    void this.#touch(name);
    // At once, so that it cannot take away the mark of who comes next.
    rmSync(this.#mark(name), { force: true });
    if (this.#users.size > 0) return;
    clearInterval(this.#refreshing);
    this.#refreshing = undefined;
  }

  #refresh(): void {
    for (const name of this.#users.keys()) void writeFile(this.#mark(name), '').catch(() => undefined);
  }

  /** What cannot be removed now is tried again after the next build. */
  #trim(): Promise<void> {
    this.#trimming = this.#trimming.then(() => this.#makeRoom()).catch(() => undefined);
    return this.#trimming;
  }

  async #makeRoom(): Promise<void> {
    const { root, bytesMax } = this.#options;
    const used = await this.#usedByOthers();
    const kept: Kept[] = [];
    for (const name of await readdir(root)) {
      if (name.includes('.going')) await this.#dropGoing(name);
      if (NAME.test(name)) kept.push(await this.#look(name));
    }
    let held = kept.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { name, bytes } of kept.toSorted((a, b) => a.usedAt - b.usedAt)) {
      if (held <= bytesMax) return;
      if (used.has(name) || this.#users.has(name)) continue;
      if (await this.#remove(name)) held -= bytes;
    }
  }

  /**
   * Whoever finds it complete has it whole: it leaves its place at once. Who uses it has marked it before it looked, so that one
   * who came since the marks were read is seen now, and gets it back.
   */
  async #remove(name: string): Promise<boolean> {
    const going = join(this.#options.root, `${name}.going-${process.pid}`);
    const isWanted = async (): Promise<boolean> =>
      this.#users.has(name) || (await this.#usedByOthers()).has(name);
    if (await isWanted()) return false;
    await rename(this.#directory(name), going);
    if ((await isWanted()) && (await rename(going, this.#directory(name)).then(() => true, isReplaced)))
      return false;
    await rm(going, { recursive: true, force: true });
    return true;
  }

  /** Another's may be about to go back to its place. */
  async #dropGoing(name: string): Promise<void> {
    const path = join(this.#options.root, name);
    const facts = await stat(path).catch(() => null);
    const isOurs = name.endsWith(`-${process.pid}`);
    if (isOurs || (facts !== null && Date.now() - facts.ctimeMs > GOING_MS))
      await rm(path, { recursive: true, force: true });
  }

  /** Its bytes are counted once, after its build. One that was never finished is the first to go. */
  async #look(name: string): Promise<Kept> {
    const complete = this.#complete(name);
    const facts = await stat(complete).catch(() => null);
    if (facts === null) return { name, bytes: await bytesIn(this.#directory(name)), usedAt: 0 };
    const noted = Number(await readFile(complete, 'utf8'));
    if (noted > 0) return { name, bytes: noted, usedAt: facts.mtimeMs };
    const bytes = await bytesIn(this.#directory(name));
    await writeFile(complete, String(bytes));
    await utimes(complete, facts.atime, facts.mtime);
    return { name, bytes, usedAt: facts.mtimeMs };
  }

  async #usedByOthers(): Promise<ReadonlySet<string>> {
    const place = join(this.#options.root, 'users');
    const used = new Set<string>();
    for (const mark of await readdir(place)) {
      if (!mark.includes('~')) continue;
      const [name, host, pid] = mark.split('~');
      const at = (await stat(join(place, mark)).catch(() => null))?.mtimeMs;
      if (at === undefined) continue;
      if (isUse(host, Number(pid), at)) used.add(name!);
      else await rm(join(place, mark), { force: true });
    }
    return used;
  }
}

/** Of a process of this machine that lives, or of another machine that said so lately. */
const isUse = (host: string | undefined, pid: number, at: number): boolean => {
  if (host !== hostname()) return Date.now() - at < OTHERS_MS;
  return pid === process.pid ? at >= STARTED_AT : isAlive(pid);
};

/** Who wanted it builds it anew. */
const isReplaced = (): false => false;

const bytesIn = async (directory: string): Promise<number> => {
  let bytes = 0;
  for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) bytes += await bytesIn(path);
    else if (entry.isFile()) bytes += (await stat(path).catch(() => null))?.size ?? 0;
  }
  return bytes;
};

/** The machine's NVIDIA devices: how many and which, and which replica has which. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A driver that hangs must not keep the workers from starting. */
const PROGRAM_MS_MAX = 10_000;

/** Device nodes that the driver makes; no device, no node. */
export const gpuCount = (devices: string = '/dev'): number => {
  try {
    return readdirSync(devices).filter((name) => /^nvidia\d+$/.test(name)).length;
  } catch {
    return 0;
  }
};

/** What the devices are, in the driver's words (`NVIDIA L4`); empty where nothing tells. */
export const gpuNames = (
  directory = '/proc/driver/nvidia/gpus',
  program = 'nvidia-smi',
): readonly string[] => {
  const names = namesIn(directory);
  if (names.length > 0) return names;
  const { stdout, status } = spawnSync(program, ['--query-gpu=name', '--format=csv,noheader'], {
    encoding: 'utf8',
    timeout: PROGRAM_MS_MAX,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return status === 0 ? linesOf(stdout) : [];
};

const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory).flatMap((device) => {
      const information = readFileSync(join(directory, device, 'information'), 'utf8');
      const name = /^Model:\s*(\S.*?)\s*$/m.exec(information)?.[1];
      return name === undefined ? [] : [name];
    });
  } catch {
    return [];
  }
};

export type GpuRequest = { readonly type: string; readonly count: number };

/** Of a resource text `type:count`; the count may be left out. */
export const gpuRequest = (gpu: string | null): GpuRequest | null => {
  if (gpu === null) return null;
  const found = /^(.*?)(?::(\d+))?$/s.exec(gpu);
  return { type: found?.[1] ?? gpu, count: Math.max(1, Number(found?.[2] ?? 1)) };
};

/** What tells one type from another: `l4`, `t4`, `a100`, `4090`; none in a word that means any device. */
export const modelWord = (text: string): string | undefined =>
  text
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .find((word) => /\d/.test(word));

/** Whether a type that was asked for is a device of this name: `nvidia-tesla-t4` is `Tesla T4`. */
export const isOfType = (type: string, name: string): boolean => {
  const wanted = modelWord(type);
  return (
    wanted === undefined ||
    name
      .toLowerCase()
      .split(/[^a-z0-9]+/)
      .includes(wanted)
  );
};

type Device = { users: number; isExclusive: boolean };

/**
 * Hands out devices. A replica that asks for one may share it when there are more replicas than devices; several
 * are a replica's own.
 */
export class GpuDevices {
  readonly #devices: Device[];

  constructor(count: number) {
    this.#devices = Array.from({ length: count }, () => ({ users: 0, isExclusive: false }));
  }

  get count(): number {
    return this.#devices.length;
  }

  /** Devices that no replica has. */
  get free(): number {
    return this.#devices.filter(({ users }) => users === 0).length;
  }

  /** @throws Error with the reason when they cannot be had now. */
  take(count: number): number[] {
    const ids = count === 1 ? this.#leastUsed() : this.#unused(count);
    if (ids === null)
      throw new Error(
        `no device: it needs ${count} of the ${this.count} GPUs of this machine for itself, and ${this.free} are free`,
      );
    for (const id of ids) {
      const device = this.#devices[id]!;
      device.users += 1;
      device.isExclusive = count > 1;
    }
    return ids;
  }

  giveBack(ids: readonly number[]): void {
    for (const id of ids) {
      const device = this.#devices[id]!;
      device.users -= 1;
      device.isExclusive = false;
    }
  }

  #leastUsed(): number[] | null {
    let best = -1;
    for (const [id, { users, isExclusive }] of this.#devices.entries())
      if (!isExclusive && (best === -1 || users < this.#devices[best]!.users)) best = id;
    return best === -1 ? null : [best];
  }

  #unused(count: number): number[] | null {
    const free = [...this.#devices.keys()].filter((id) => this.#devices[id]!.users === 0);
    return free.length < count ? null : free.slice(0, count);
  }
}

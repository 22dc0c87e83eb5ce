/**
 * Whether two versions of a function fit on this machine side by side, which a change of versions without a gap needs.
 * A GPU is held by one replica; memory is held as it is declared. `cpu` never stands in the way: it sets thread counts
 * and limits nothing (docs/decisions/0006), so two versions share the cores for the time of the change.
 */
import type { FunctionVersion } from '../shared/domain/function.ts';
import type { Machine } from './backend.ts';
import { GpuDevices, gpuRequest } from './gpu-devices.ts';
import { bytesText } from './memory-watch.ts';

export type Share = { readonly version: FunctionVersion; readonly replicas: number };

export type Room = {
  /** NVIDIA devices of this machine, and how many of them no replica has. */
  readonly devices: number;
  readonly freeDevices: number;
  readonly memoryBytes: number;
};

/** The devices and the memory of this machine, for all replicas that run on it. */
export class MachineRoom {
  readonly #devices: GpuDevices;
  readonly #memoryBytes: number;

  constructor({ gpus, memoryBytes }: Machine) {
    this.#devices = new GpuDevices(gpus);
    this.#memoryBytes = memoryBytes;
  }

  /** Why replicas of a version cannot be started beside those of others; null when they can. */
  clash(wanted: Share, holders: readonly Share[]): string | null {
    const { count, free } = this.#devices;
    return clashOf(wanted, holders, { devices: count, freeDevices: free, memoryBytes: this.#memoryBytes });
  }

  /** Devices for a replica that asks for some, where the machine has any. @throws Error when none are left for it */
  takeDevices({ spec }: FunctionVersion): readonly number[] {
    const wanted = gpuRequest(spec.resources.gpu);
    if (wanted === null || this.#devices.count === 0) return [];
    return this.#devices.take(Math.min(wanted.count, this.#devices.count));
  }

  giveBack(devices: readonly number[]): void {
    this.#devices.giveBack(devices);
  }
}

const memoryOf = ({ version, replicas }: Share): number =>
  (version.spec.resources.memoryBytes ?? 0) * replicas;

/**
 * Why the wanted replicas cannot be beside those of other versions, as the object of a sentence; null when they can.
 * Devices that replicas of one version must share among themselves are no reason: they share them in any case.
 */
export const clashOf = (wanted: Share, holders: readonly Share[], room: Room): string | null => {
  const gpu = gpuRequest(wanted.version.spec.resources.gpu);
  const isHeld = holders.some(({ version, replicas }) => version.spec.resources.gpu !== null && replicas > 0);
  if (gpu !== null && isHeld && room.freeDevices < Math.min(wanted.replicas * gpu.count, room.devices)) {
    const devices = room.devices === 1 ? 'one device' : `${room.devices} devices`;
    return `gpu=${JSON.stringify(wanted.version.spec.resources.gpu)}: ${devices} of this machine cannot hold both versions`;
  }
  const held = holders.reduce((bytes, holder) => bytes + memoryOf(holder), 0);
  const needed = memoryOf(wanted);
  if (needed > 0 && held > 0 && needed + held > room.memoryBytes) {
    const texts = [needed, held, room.memoryBytes].map(bytesText);
    return `memory: ${texts[0]} beside ${texts[1]} is more than the ${texts[2]} of this machine`;
  }
  return null;
};

/**
 * Whether two versions of a function fit on this machine side by side, which a change of versions without a gap needs.
 * A GPU is held by one replica; memory is held as it is declared. `cpu` never stands in the way: it sets thread counts
 * and limits nothing (docs/decisions/0006), so two versions share the cores for the time of the change.
 */
import type { FunctionVersion } from '../shared/domain/function.ts';
import { bytesText } from './memory-watch.ts';

export type Share = { readonly version: FunctionVersion; readonly replicas: number };

export type Room = {
  /** NVIDIA devices of this machine, and how many of them no replica has. */
  readonly devices: number;
  readonly freeDevices: number;
  readonly memoryBytes: number;
};

const memoryOf = ({ version, replicas }: Share): number =>
  (version.spec.resources.memoryBytes ?? 0) * replicas;

/**
 * Why the wanted replicas cannot be beside those of other versions, as the object of a sentence; null when they can.
 * Devices that replicas of one version must share among themselves are no reason: they share them in any case.
 */
export const clashOf = (wanted: Share, holders: readonly Share[], room: Room): string | null => {
  const { gpu } = wanted.version.spec.resources;
  const isHeld = holders.some(({ version, replicas }) => version.spec.resources.gpu !== null && replicas > 0);
  if (gpu !== null && isHeld && room.freeDevices < Math.min(wanted.replicas, room.devices)) {
    const devices = room.devices === 1 ? 'one device' : `${room.devices} devices`;
    return `gpu=${JSON.stringify(gpu)}: ${devices} of this machine cannot hold both versions`;
  }
  const held = holders.reduce((bytes, holder) => bytes + memoryOf(holder), 0);
  const needed = memoryOf(wanted);
  if (needed > 0 && held > 0 && needed + held > room.memoryBytes) {
    const texts = [needed, held, room.memoryBytes].map(bytesText);
    return `memory: ${texts[0]} beside ${texts[1]} is more than the ${texts[2]} of this machine`;
  }
  return null;
};

/** The machine's NVIDIA devices, and which replica has which. */
import { readdirSync } from 'node:fs';

/** Device nodes that the driver makes; no device, no node. */
export const gpuCount = (devices: string = '/dev'): number => {
  try {
    return readdirSync(devices).filter((name) => /^nvidia\d+$/.test(name)).length;
  } catch {
    return 0;
  }
};

/** Hands out the device with the fewest replicas; a device may be shared when there are more replicas than devices. */
export class GpuDevices {
  readonly #users: number[];

  constructor(count: number) {
    this.#users = new Array<number>(count).fill(0);
  }

  get count(): number {
    return this.#users.length;
  }

  /** Devices that no replica has. */
  get free(): number {
    return this.#users.filter((users) => users === 0).length;
  }

  take(): number {
    const device = this.#users.indexOf(Math.min(...this.#users));
    this.#users[device]! += 1;
    return device;
  }

  giveBack(device: number): void {
    this.#users[device]! -= 1;
  }
}

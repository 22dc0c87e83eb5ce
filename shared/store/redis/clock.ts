/** Whether this machine's clock and the server's are those of one world: the verbs take their caller's time. */
import type { Link } from './link.ts';

/** Leases of buffers are four seconds long, and each renewal has some of them left. */
const SKEW_MS_MAX = 1000;

/** @param wall this machine's time, in milliseconds since the epoch */
export const readClockWarning = async (link: Link, wall: () => number): Promise<string[]> => {
  const before = wall();
  const [seconds, micros] = await link.command<readonly [Buffer, Buffer]>('TIME');
  const after = wall();
  const told = Number(seconds) * 1000 + Number(micros) / 1000;
  // Told somewhere between the two, so that a slow answer is no skew.
  const skew = told < before ? told - before : Math.max(0, told - after);
  if (Math.abs(skew) <= SKEW_MS_MAX) return [];
  const direction = skew < 0 ? 'ahead of' : 'behind';
  return [
    `This machine's clock is ${Math.round(Math.abs(skew) / 1000)} s ${direction} that of Redis, so leases and deadlines end at wrong times; keep the clocks of all machines within ${SKEW_MS_MAX / 1000} s (NTP).`,
  ];
};

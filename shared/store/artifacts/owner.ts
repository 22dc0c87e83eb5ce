/**
 * Who writes a partial upload, as a part of its file's name: place, process, its start, and a random part for the upload.
 * Only where the place is our own can we know that the process is gone; anywhere else its silence must do.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** A writer says this often that it is there. */
export const SIGN_MS = 5000;
/** Silent for so long, it counts as gone; what it wrote is then copied, so that a late writer spoils nothing. */
export const SILENCE_MS = 30_000;

const quietly = <T>(read: () => T, otherwise: T): T => {
  try {
    return read();
  } catch {
    return otherwise;
  }
};

/** The same for processes that see each other's ids: one boot of one machine, one namespace of process ids. */
const place = createHash('sha256')
  .update(
    quietly(
      () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8') + readlinkSync('/proc/self/ns/pid'),
      hostname(),
    ),
  )
  .digest('hex')
  .slice(0, 16);

/** When a process started, in ticks of its boot: an id that was given again has another. '0' where /proc is not. */
const startOf = (pid: number): string =>
  quietly(() => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in brackets and may hold anything; the start is the 22nd.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '0';
  }, '0');

const ownStart = startOf(process.pid);

export const newOwner = (): string => `${place}-${process.pid}-${ownStart}-${randomBytes(8).toString('hex')}`;

const isAlive = (pid: number, start: string): boolean => {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return startOf(pid) === start;
};

/** `gone`: it is certain that nothing writes any more. `silent`: it has not said for long that it is there, as a thread that died. */
export const stateOf = (owner: string, signedAt: number, now: number): 'here' | 'silent' | 'gone' => {
  const [where, pid, start] = owner.split('-');
  if (where === place && !isAlive(Number(pid), start ?? '0')) return 'gone';
  return now - signedAt > SILENCE_MS ? 'silent' : 'here';
};

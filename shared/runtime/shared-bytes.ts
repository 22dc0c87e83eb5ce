/** Memory that threads share. */

/** Small ones cost the collector as much as they weigh. */
const COUNTED_BYTES_MIN = 65_536;
/** A quarter: memory of some hundred megabytes at full speed; the whole would collect four times as often. */
const COUNTED_SHARE = 4;

/**
 * V8's collector does not count shared memory, so that a gigabyte of dead bodies would lie about before it looks; an
 * untouched allocation beside each one, which it does count, makes it look in time.
 */
export const sharedBytes = (bytes: number): Uint8Array => {
  if (bytes >= COUNTED_BYTES_MIN) Buffer.allocUnsafeSlow(Math.ceil(bytes / COUNTED_SHARE));
  return new Uint8Array(new SharedArrayBuffer(bytes));
};

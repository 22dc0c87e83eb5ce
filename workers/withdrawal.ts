/**
 * Taking batches back from a handler process, on its file descriptor 4 (docs/decisions/0001). The host names the first and the
 * last that it wants back; the process answers which it has begun last, and begins none of the later ones. Unsigned
 * 64-bit numbers, least significant byte first.
 */
const NUMBER_BYTES = 8;

/** Of a withdrawal: the first and the last batch. */
export const WITHDRAWAL_NUMBERS = 2;
/** Of its answer: the batch that began last. */
export const BEGUN_NUMBERS = 1;

export const numberBytes = (...numbers: readonly number[]): Buffer => {
  const bytes = Buffer.allocUnsafe(NUMBER_BYTES * numbers.length);
  for (const [at, number] of numbers.entries()) bytes.writeBigUInt64LE(BigInt(number), NUMBER_BYTES * at);
  return bytes;
};

/** Cuts a byte stream into messages of so many numbers, whatever the chunks. */
export const numberReader = (
  count: number,
  onNumbers: (...numbers: readonly number[]) => void,
): ((chunk: Buffer) => void) => {
  const messageBytes = NUMBER_BYTES * count;
  let left = Buffer.alloc(0);
  return (chunk) => {
    left = Buffer.concat([left, chunk]);
    while (left.length >= messageBytes) {
      const message = left.subarray(0, messageBytes);
      left = left.subarray(messageBytes);
      onNumbers(
        ...Array.from({ length: count }, (_, at) => Number(message.readBigUInt64LE(NUMBER_BYTES * at))),
      );
    }
  };
};

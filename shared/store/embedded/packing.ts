/**
 * Lists of numbers as bytes: unsigned LEB128 varints, so that a slice of a young store takes 5 bytes and one of a
 * store with 2^50 calls still fits. Values are whole numbers from 0 to Number.MAX_SAFE_INTEGER.
 */
export const packNumbers = (values: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array(values.length * 8);
  let at = 0;
  for (let value of values) {
    while (value >= 0x80) {
      bytes[at++] = value >= 0x8000_0000 ? (value % 128) | 0x80 : (value & 0x7f) | 0x80;
      value = value >= 0x8000_0000 ? Math.floor(value / 128) : value >>> 7;
    }
    bytes[at++] = value;
  }
  return bytes.subarray(0, at);
};

export const unpackNumbers = (bytes: Uint8Array): number[] => {
  const values: number[] = [];
  let value = 0;
  let scale = 1;
  for (const byte of bytes) {
    value += (byte & 0x7f) * scale;
    if (byte >= 0x80) {
      scale *= 128;
    } else {
      values.push(value);
      value = 0;
      scale = 1;
    }
  }
  return values;
};

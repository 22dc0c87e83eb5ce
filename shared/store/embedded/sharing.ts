/** Below this a copy into each reading thread is cheaper than shared memory. */
export const SHARE_BYTES_MIN = 16 * 1024;

export const shared = (bytes: Uint8Array): Uint8Array => {
  if (bytes.buffer instanceof SharedArrayBuffer || bytes.byteLength < SHARE_BYTES_MIN) return bytes;
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.byteLength));
  copy.set(bytes);
  return copy;
};

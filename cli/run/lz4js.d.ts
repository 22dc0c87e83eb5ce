/** LZ4 frames, in JavaScript. */
declare module 'lz4js' {
  export function decompress(bytes: Uint8Array, maxSize?: number): Uint8Array;
}

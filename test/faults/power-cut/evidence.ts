/** Payloads and outputs that anyone can make again from their key, so that a reader knows whether they are whole. */
const repeated = (word: string, bytes: number): string =>
  word.repeat(Math.ceil(bytes / word.length)).slice(0, bytes);

export const payloadOf = (key: number, bytes: number): string =>
  JSON.stringify([[repeated(`${key},`, bytes)]]);

/** The first byte is the length of the token, the token follows, and then itself again and again. */
export const outputOf = (token: string, bytes: number): Uint8Array =>
  Buffer.from(repeated(`${token};`, bytes));

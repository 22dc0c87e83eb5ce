/** Writes answers straight to the socket: with a content length where the body is whole, in chunks behind the reader's pace else. */
import type { ServerResponse } from 'node:http';
import type { Chunks, ResultAnswer } from '../results/call-results.ts';

/** A reader that takes nothing for so long has gone; its page of the result is freed. */
const STALL_MS = 60_000;

const isWhole = (body: ResultAnswer['body']): body is string | readonly Uint8Array[] =>
  typeof body === 'string' || Array.isArray(body);

const bytesOf = (body: string | readonly Uint8Array[]): number =>
  typeof body === 'string'
    ? Buffer.byteLength(body)
    : body.reduce((bytes, piece) => bytes + piece.byteLength, 0);

export const writeAnswer = (
  response: ServerResponse,
  status: number,
  answer: ResultAnswer,
  requestId: string,
  more: readonly string[] = [],
): void | Promise<void> => {
  const { headers, body } = answer;
  if (response.destroyed) return isWhole(body) ? undefined : body.return().then(() => undefined);
  const lines = [...headers, ...more, 'x-request-id', requestId, 'x-content-type-options', 'nosniff'];
  if (!isWhole(body)) return stream(response, status, lines, body);
  lines.push('content-length', String(bytesOf(body)));
  response.writeHead(status, lines);
  if (typeof body === 'string') {
    response.end(body);
    return;
  }
  // Corked by Node until the end of the turn: one system call takes them all.
  for (const piece of body) response.write(piece);
  response.end();
};

/** Resolves when the socket takes more, or is closed. */
const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });

const stream = async (
  response: ServerResponse,
  status: number,
  lines: readonly string[],
  chunks: Chunks,
): Promise<void> => {
  // The first chunk comes before the head, so that what fails at once is still a problem document.
  let next = await chunks.next();
  response.writeHead(status, [...lines]);
  const { socket } = response;
  const before = socket?.timeout ?? 0;
  socket?.setTimeout(STALL_MS);
  try {
    while (next.done !== true && !response.destroyed) {
      if (!response.write(next.value)) await drained(response);
      if (response.destroyed) break;
      next = await chunks.next();
    }
    response.end();
  } catch (error) {
    // A cut connection tells the reader that the result is not whole; an orderly end would lie.
    response.destroy();
    throw error;
  } finally {
    socket?.setTimeout(before);
    await chunks.return();
  }
};

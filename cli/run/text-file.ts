/** Text files of any size: chunks of whole characters that are UTF-8, and their lines. */
import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { CommandError } from '../failure.ts';

const READ_BYTES = 1024 * 1024;
/** A file without line ends would be one line; it is refused before it fills the memory. */
export const LINE_CHARACTERS_MAX = 64 * 1024 * 1024;
const BYTE_ORDER_MARK = Buffer.from('\ufeff');
const LINE_FEED = 0x0a;

export type ReadSoFar = { bytes: number };

/** Bytes at the end that begin a character and do not end it. */
const openBytes = (bytes: Buffer): number => {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
  }
  return 0;
};

const withoutMark = (bytes: Buffer): Buffer =>
  bytes.subarray(0, 3).equals(BYTE_ORDER_MARK) ? bytes.subarray(3) : bytes;

/**
 * A byte order mark is left out. `read` counts.
 * @throws CommandError naming line and byte of what is no UTF-8: a decoder would put U+FFFD there without a word
 */
export async function* textChunks(
  file: string,
  read: ReadSoFar = { bytes: 0 },
): AsyncGenerator<Buffer, void, undefined> {
  let open: Buffer = Buffer.alloc(0);
  let from = 0;
  for await (const next of createReadStream(file, { highWaterMark: READ_BYTES })) {
    read.bytes += next.length;
    const bytes = open.length === 0 ? (next as Buffer) : Buffer.concat([open, next as Buffer]);
    const whole = bytes.subarray(0, bytes.length - openBytes(bytes));
    if (!isUtf8(whole)) throw await notUtf8(file, from, whole);
    open = bytes.subarray(whole.length);
    yield from === 0 ? withoutMark(whole) : whole;
    from += whole.length;
  }
  if (open.length > 0) throw await notUtf8(file, from, open);
}

/** `bytes`, which are not UTF-8, stand at `from` of the file. */
const notUtf8 = async (file: string, from: number, bytes: Buffer): Promise<CommandError> => {
  const isSound = (length: number): boolean => {
    const head = bytes.subarray(0, length);
    return isUtf8(head.subarray(0, length - openBytes(head)));
  };
  let [sound, broken] = [0, bytes.length];
  while (sound < broken) {
    const middle = (sound + broken + 1) >> 1;
    if (isSound(middle)) sound = middle;
    else broken = middle - 1;
  }
  const at = from + sound - openBytes(bytes.subarray(0, sound));
  let [line, lineFrom, position] = [1, 0, 0];
  for await (const chunk of createReadStream(file, { end: at })) {
    for (let i = chunk.indexOf(LINE_FEED); i >= 0 && position + i < at; i = chunk.indexOf(LINE_FEED, i + 1)) {
      line++;
      lineFrom = position + i + 1;
    }
    position += chunk.length;
  }
  return new CommandError(
    `${file}, line ${line}, is not UTF-8 at byte ${at - lineFrom + 1}; save it as UTF-8.`,
  );
};

/** Lines without their ends; `from` is the number of the first, from 1. */
export type LineBlock = { readonly texts: readonly string[]; readonly from: number };

/** All lines of a file, in the blocks that they are read in: a promise for each line would cost more than its parsing. */
export async function* textLines(file: string, read?: ReadSoFar): AsyncGenerator<LineBlock, void, undefined> {
  let open = '';
  let from = 1;
  for await (const chunk of textChunks(file, read)) {
    const texts = chunk.toString('utf8').split('\n');
    texts[0] = open + texts[0]!;
    open = texts.pop()!;
    if (texts.length > 0) yield { texts, from };
    from += texts.length;
    if (open.length > LINE_CHARACTERS_MAX)
      throw new CommandError(
        `${file}, line ${from}, has more than ${LINE_CHARACTERS_MAX} characters; begin a new line for each row.`,
      );
  }
  if (open !== '') yield { texts: [open], from };
}

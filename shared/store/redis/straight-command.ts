/** Commands with large arguments, which go to the socket as they are: ioredis would copy each twice on its way. */
import { Command } from 'ioredis';

/** Below this a copy costs less than a write of its own. */
const STRAIGHT_BYTES_MIN = 32_768;

type Argument = string | number | Buffer;

export const isStraight = (argument: unknown): argument is Buffer =>
  Buffer.isBuffer(argument) && argument.length >= STRAIGHT_BYTES_MIN;

/** Its replies are Buffers. */
export class StraightCommand extends Command {
  constructor(name: string, args: readonly Argument[]) {
    super(name, [...args], { replyEncoding: null });
  }

  /** Writes all but the last piece, which its caller writes. */
  override toWritable(socket: object): Buffer {
    const { write } = socket as { readonly write: (bytes: Buffer) => void };
    let parts: Buffer[] = [Buffer.from(`*${this.args.length + 1}\r\n`)];
    for (const one of [this.name, ...(this.args as Argument[])]) {
      const bytes = Buffer.isBuffer(one) ? one : Buffer.from(String(one));
      parts.push(Buffer.from(`$${bytes.length}\r\n`));
      if (isStraight(bytes)) {
        write.call(socket, Buffer.concat(parts));
        write.call(socket, bytes);
        parts = [];
      } else {
        parts.push(bytes);
      }
      parts.push(END);
    }
    return Buffer.concat(parts);
  }
}

const END = Buffer.from('\r\n');

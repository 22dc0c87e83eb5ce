/**
 * A Redis server that knows WAITAOF, where the machine's own is older: all commands go on to it as they came, but for that one,
 * which is answered as if so many replicas had confirmed as `replicas` says.
 */
import { type Changes, TcpProxy } from './tcp-proxy.ts';

const LINE = '\r\n';
/** Of the same length as what it stands for, which is part of a longer reply. */
const VERSION = [/redis_version:7\.0\./g, 'redis_version:7.2.'] as const;

/** Whole commands at the beginning of what came, as `[bytes, name]`: arrays of bulk strings, as clients send them. */
const commandsOf = (bytes: Buffer): (readonly [Buffer, string])[] => {
  const commands: (readonly [Buffer, string])[] = [];
  for (let at = 0; ; ) {
    const start = at;
    const number = (): number => {
      const end = bytes.indexOf(LINE, at);
      const value = end < 0 ? Number.NaN : Number(bytes.toString('latin1', at + 1, end));
      at = end + LINE.length;
      return value;
    };
    const count = number();
    let name = '';
    for (let arg = 0; arg < count; arg += 1) {
      const length = number();
      if (arg === 0) name = bytes.toString('latin1', at, at + length).toUpperCase();
      at += length + LINE.length;
    }
    if (!(at > start && at <= bytes.length)) return commands;
    commands.push([bytes.subarray(start, at), name]);
  }
};

export class WaitaofProxy {
  /** Whose disks confirm, of those that an admission asks for. */
  replicas = 1;
  readonly url: string;
  readonly #proxy: TcpProxy;

  private constructor(proxy: TcpProxy) {
    this.url = `redis://127.0.0.1:${proxy.port}`;
    this.#proxy = proxy;
  }

  static async start(targetPort: number): Promise<WaitaofProxy> {
    const started: WaitaofProxy = new WaitaofProxy(
      await TcpProxy.start(targetPort, () => started.#changes()),
    );
    return started;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#proxy.stop();
  }

  #changes(): Changes {
    let waiting = Buffer.alloc(0);
    return {
      there: (bytes) => {
        waiting = Buffer.concat([waiting, bytes]);
        const commands = commandsOf(waiting);
        waiting = waiting.subarray(commands.reduce((sum, [command]) => sum + command.length, 0));
        return Buffer.concat(
          commands.map(([command, name]) => (name === 'WAITAOF' ? this.#answering() : command)),
        );
      },
      back: (bytes) => Buffer.from(bytes.toString('latin1').replace(...VERSION), 'latin1'),
    };
  }

  /** A command that the older server answers in its turn as a newer one answers WAITAOF. */
  #answering(): Buffer {
    const parts = ['EVAL', `return {1, ${this.replicas}}`, '0'];
    return Buffer.from(
      `*${parts.length}${LINE}${parts.map((part) => `$${part.length}${LINE}${part}${LINE}`).join('')}`,
    );
  }
}

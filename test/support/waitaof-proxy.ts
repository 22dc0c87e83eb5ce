/**
 * A Redis server that knows WAITAOF, where the machine's own is older: all commands go on to it as they came, but for that one,
 * which is answered as if so many replicas had confirmed as `replicas` says.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

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
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    this.url = `redis://127.0.0.1:${(server.address() as { port: number }).port}`;
    server.on('connection', (near) => this.#join(near, connect(targetPort, '127.0.0.1')));
  }

  static async start(targetPort: number): Promise<WaitaofProxy> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new WaitaofProxy(server, targetPort);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(near: Socket, far: Socket): void {
    let waiting = Buffer.alloc(0);
    near.on('data', (bytes) => {
      waiting = Buffer.concat([waiting, bytes]);
      for (const [command, name] of commandsOf(waiting)) {
        waiting = waiting.subarray(command.length);
        far.write(name === 'WAITAOF' ? this.#answering() : command);
      }
    });
    far.on('data', (bytes) => near.write(bytes.toString('latin1').replace(...VERSION), 'latin1'));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      one.on('error', () => undefined);
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
  }

  /** A command that the older server answers in its turn as a newer one answers WAITAOF. */
  #answering(): string {
    const parts = ['EVAL', `return {1, ${this.replicas}}`, '0'];
    return `*${parts.length}${LINE}${parts.map((part) => `$${part.length}${LINE}${part}${LINE}`).join('')}`;
  }
}

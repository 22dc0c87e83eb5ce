/**
 * One keep-alive HTTP/1.1 connection that sends prepared bytes and waits for the reply before the next. It parses only the
 * status and Content-Length: a general client (fetch, undici) spends more on a request than the servers under test do.
 */
import net from 'node:net';

export type Reply = { readonly status: number; readonly body: () => string };

const HEAD_END = Buffer.from('\r\n\r\n');

export class Connection {
  readonly #socket: net.Socket;
  readonly #onReply: (reply: Reply) => void;
  /** Bytes of a reply that is not complete; null between replies, which is the rule for small ones. */
  #partial: Buffer | null = null;

  constructor(
    target: { readonly host: string; readonly port: number },
    on: { ready: () => void; reply: (reply: Reply) => void; lost: (why: string) => void },
  ) {
    this.#onReply = on.reply;
    this.#socket = net.connect({ host: target.host, port: target.port, noDelay: true }, on.ready);
    this.#socket.on('data', (chunk) => this.#read(chunk));
    let why = 'connection closed';
    this.#socket.on('error', (error) => {
      why = error.message; // 'close' follows
    });
    this.#socket.on('close', () => on.lost(why));
  }

  send(request: Buffer): void {
    this.#socket.write(request);
  }

  end(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    const bytes = this.#partial ? Buffer.concat([this.#partial, chunk]) : chunk;
    const headEnd = bytes.indexOf(HEAD_END);
    if (headEnd < 0) {
      this.#partial = bytes;
      return;
    }
    const length = /\r\ncontent-length: *(\d+)/i.exec(bytes.toString('latin1', 0, headEnd + 2));
    const status = Number(bytes.toString('latin1', 9, 12));
    if (!length && status !== 204) {
      this.#socket.destroy(new Error('a reply without Content-Length'));
      return;
    }
    const bodyAt = headEnd + HEAD_END.length;
    const total = bodyAt + Number(length?.[1] ?? 0);
    if (bytes.length < total) {
      this.#partial = bytes;
      return;
    }
    this.#partial = bytes.length > total ? bytes.subarray(total) : null;
    this.#onReply({ status, body: () => bytes.toString('utf8', bodyAt, total) });
  }
}

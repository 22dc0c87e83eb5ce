/** A collector of traces as far as a sender sees it: OTLP over HTTP with protobuf. What it got can be read as spans. */
import { createServer, type Server } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { eventually } from './sluice-process.ts';

export type Attributes = Readonly<Record<string, string | number>>;

export type ReceivedSpan = {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  /** '' for the first of a trace. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly attributes: Attributes;
  /** `TRACE-SPAN` of each. */
  readonly links: readonly string[];
  /** 2 is an error. */
  readonly status: { readonly code: number; readonly message: string };
  readonly resource: Attributes;
};

/** https://protobuf.dev/programming-guides/encoding/ */
class Message {
  readonly #fields = new Map<number, (Buffer | number)[]>();
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    while (this.#at < bytes.length) {
      const tag = this.#varint();
      const field = Math.floor(tag / 8);
      this.#fields.set(field, [...(this.#fields.get(field) ?? []), this.#value(tag % 8)]);
    }
  }

  messages(field: number): Message[] {
    return (this.#fields.get(field) ?? []).map((bytes) => new Message(bytes as Buffer));
  }

  hex(field: number): string {
    return this.#first(field)?.toString('hex') ?? '';
  }

  text(field: number): string {
    return this.#first(field)?.toString() ?? '';
  }

  number(field: number): number {
    return (this.#fields.get(field)?.[0] as number | undefined) ?? 0;
  }

  has(field: number): boolean {
    return this.#fields.has(field);
  }

  #first(field: number): Buffer | undefined {
    return this.#fields.get(field)?.[0] as Buffer | undefined;
  }

  #varint(): number {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.#at]!;
      this.#at += 1;
      value += (byte % 128) * scale;
      if (byte < 128) return value;
    }
  }

  #value(type: number): Buffer | number {
    if (type === 0) return this.#varint();
    const length = { 1: 8, 2: 0, 5: 4 }[type]! || this.#varint();
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

const attributesOf = (message: Message, field: number): Attributes =>
  Object.fromEntries(
    message.messages(field).map((pair) => {
      const [value] = pair.messages(2);
      return [pair.text(1), value!.has(1) ? value!.text(1) : value!.number(3)];
    }),
  );

const spanOf = (span: Message, resource: Attributes): ReceivedSpan => {
  const [status] = span.messages(15);
  return {
    name: span.text(5),
    traceId: span.hex(1),
    spanId: span.hex(2),
    parentSpanId: span.hex(4),
    traceState: span.text(3),
    attributes: attributesOf(span, 9),
    links: span.messages(13).map((link) => `${link.hex(1)}-${link.hex(2)}`),
    status: { code: status?.number(3) ?? 0, message: status?.text(2) ?? '' },
    resource,
  };
};

/** trace/v1/trace.proto and common/v1/common.proto of opentelemetry-proto. */
const spansOf = (body: Buffer): ReceivedSpan[] =>
  new Message(body).messages(1).flatMap((resourceSpans) => {
    const [resource] = resourceSpans.messages(1);
    const attributes = resource === undefined ? {} : attributesOf(resource, 1);
    const scopes = resourceSpans.messages(2);
    return scopes.flatMap((scope) => scope.messages(2).map((span) => spanOf(span, attributes)));
  });

export class OtlpReceiver {
  readonly spans: ReceivedSpan[] = [];
  readonly paths = new Set<string>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async (request, response) => {
      this.spans.push(...spansOf(await buffer(request)));
      this.paths.add(`${request.method} ${request.url}`);
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
    });
  }

  static async start(port = 0): Promise<OtlpReceiver> {
    const receiver = new OtlpReceiver();
    await new Promise<void>((resolve) => receiver.#server.listen(port, '127.0.0.1', resolve));
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  /** What has this name, once there are so many. */
  received(name: string, count: number): Promise<readonly ReceivedSpan[]> {
    return eventually(`${count} spans ${name} are received`, async () => {
      const found = this.spans.filter((span) => span.name === name);
      return found.length >= count && found;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

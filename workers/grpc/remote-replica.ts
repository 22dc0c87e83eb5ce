/**
 * A replica that is spoken to over gRPC, whatever stands behind its address: a container of this machine, a pod.
 *
 *   starting ──its server serves──► ready ──stop──► draining ──► gone
 *       └── what is behind ends, or takes too long ──────────────┘
 */
import type { FunctionSpec } from '../../shared/domain/function.ts';
import type { HandlerInstance } from '../backend.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext } from '../handler.ts';
import { Channel } from './channel.ts';
import { RemoteHandler } from './remote-handler.ts';

/** A connection breaks a moment before the end of what was behind it is known, and that end is the better reason. */
const END_WAIT_MS = 3000;

/** What stands behind the address. */
export interface Behind {
  /** Resolves with how it ended, after its output has been read. Never rejects. */
  readonly gone: Promise<string>;
  usage: HandlerInstance['usage'];
  /** Ends it at once; `gone` resolves then. */
  kill(cause: string): void;
  /** Tells it to leave by itself; whoever calls waits for `gone`, and kills when it takes too long. */
  leave(graceMs: number): void;
  /** The last lines of its output, for the reason of a failed start. */
  tail?(): readonly string[];
}

export type RemoteReplicaOptions = {
  /** `host:port` */
  readonly address: string;
  /** Container name or pod name. */
  readonly place: string;
  readonly spec: FunctionSpec;
  readonly behind: Behind;
  readonly readyMsMax: number;
};

export class RemoteReplica implements HandlerInstance {
  readonly wantsCalls = false;
  readonly ready: Promise<void>;
  readonly gone: Promise<string>;
  readonly place: string;
  readonly #behind: Behind;
  readonly #channel: Channel;
  readonly #handler: RemoteHandler;
  readonly #ended = new AbortController();
  #cause: string | null = null;

  constructor({ address, place, spec, behind, readyMsMax }: RemoteReplicaOptions) {
    this.place = place;
    this.#behind = behind;
    this.#channel = new Channel(address);
    this.#handler = new RemoteHandler({
      channel: this.#channel,
      spec,
      onBroken: (details) => this.#broken(details),
    });
    this.gone = behind.gone.then((reason) => this.#finish(reason));
    this.ready = this.#start(readyMsMax);
    this.ready.catch(() => undefined);
  }

  get load(): number {
    return this.#handler.load;
  }

  run(
    batch: HandlerBatch,
    context: HandlerContext,
    signal: AbortSignal,
    begun: () => void,
  ): Promise<HandlerAnswer> {
    return this.#handler.run(batch, context, signal, begun);
  }

  withdraw(): void {
    this.#handler.withdraw();
  }

  usage(): ReturnType<HandlerInstance['usage']> {
    return this.#behind.usage();
  }

  kill(cause: string): void {
    this.#cause ??= cause;
    this.#handler.fail(this.#cause);
    this.#behind.kill(this.#cause);
  }

  async stop(graceMs: number): Promise<void> {
    const end = performance.now() + graceMs;
    const timer = setTimeout(() => this.kill('it was stopped'), graceMs);
    await Promise.race([this.#handler.drain(), this.gone]);
    this.#behind.leave(Math.max(0, end - performance.now()));
    await this.gone;
    clearTimeout(timer);
  }

  async #start(readyMsMax: number): Promise<void> {
    const ended = this.gone.then((reason): never => {
      throw new Error([reason, ...(this.#behind.tail?.() ?? [])].join('\n'));
    });
    try {
      const serving = this.#channel.serving(readyMsMax, this.#ended.signal);
      // Once it has ended, that is the reason, not that nobody serves.
      await Promise.race([
        ended,
        serving.catch((error) => (this.#ended.signal.aborted ? ended : Promise.reject(error))),
      ]);
    } catch (error) {
      this.kill('it could not start');
      throw error;
    }
  }

  async #broken(details: string): Promise<string> {
    const timeout = Promise.withResolvers<null>();
    const timer = setTimeout(() => timeout.resolve(null), END_WAIT_MS);
    const reason = await Promise.race([this.#behind.gone, timeout.promise]);
    clearTimeout(timer);
    if (reason !== null) return this.#cause ?? reason;
    const text = `its connection broke (${details})`;
    this.kill(text);
    return text;
  }

  #finish(reason: string): string {
    const told = this.#cause ?? reason;
    this.#ended.abort();
    this.#handler.fail(told);
    this.#channel.close();
    return told;
  }
}

/**
 * A replica that is an inference engine, whatever stands behind its address: a process, a container, a pod.
 *
 *   starting ──its probe succeeds──► serving ⇄ out of service (its probe fails: no new batches)
 *      └── it ends, or is never ready ──┴── stop: what runs is finished ──► gone
 */
import { connect } from 'node:net';
import type { EngineSpec, ReadinessProbe } from '../../shared/domain/engine.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import { BugError } from '../../shared/errors/sluice-error.ts';
import type { HandlerInstance } from '../backend.ts';
import type { Behind } from '../grpc/remote-replica.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext } from '../handler.ts';
import { type EngineAddress, EngineConnection } from './engine-connection.ts';
import { EngineHandler } from './engine-handler.ts';
import { JsonInference } from './json-inference.ts';
import { OipInference } from './oip-inference.ts';
import { Prober } from './prober.ts';

/** A connection breaks a moment before the end of what was behind it is known, and that end is the better reason. */
const END_WAIT_MS = 1000;
const DYING_MS = 200;
/** Loading a large model takes minutes; a start that takes longer than this hangs. */
export const READY_MS_MAX = 900_000;

export type EngineReplicaOptions = {
  readonly address: EngineAddress;
  /** Where the probe's own port is reached from here; the engine's where it has none. */
  readonly probePort: number;
  /** As it is asked from here; left out: the engine's. */
  readonly probe?: ReadinessProbe;
  /** Process id, container name or pod name. */
  readonly place: string | null;
  readonly spec: FunctionSpec;
  readonly behind: Behind;
  readonly readyMsMax?: number;
  readonly answerBytesMax?: number;
};

export const engineIn = ({ name, engine }: FunctionSpec): EngineSpec => {
  if (!engine) throw new BugError(`function ${name} has the runtime http and no engine`);
  return engine;
};

export class EngineReplica implements HandlerInstance {
  readonly wantsCalls = false;
  readonly ready: Promise<void>;
  readonly gone: Promise<string>;
  readonly place: string | null;
  readonly #options: EngineReplicaOptions;
  readonly #connection: EngineConnection;
  readonly #inference: OipInference | JsonInference;
  readonly #handler: EngineHandler;
  readonly #prober: Prober;
  readonly #ended = new AbortController();
  readonly #probed = Promise.withResolvers<void>();
  #onService: (reason: string | null) => void = () => undefined;
  #reason: string | null = 'it starts';
  #cause: string | null = null;

  constructor(options: EngineReplicaOptions) {
    this.#options = options;
    const { address, spec, behind, answerBytesMax } = options;
    const engine = engineIn(spec);
    this.place = options.place;
    this.#connection = new EngineConnection(address, answerBytesMax);
    const parts = { connection: this.#connection, spec, engine };
    this.#inference = engine.protocol === 'oip-v2' ? new OipInference(parts) : new JsonInference(parts);
    this.#handler = new EngineHandler({
      infer: (batch, context, signal) => this.#infer(batch, context, signal),
      onBroken: () => this.#broken(),
    });
    this.#prober = new Prober({
      address: { host: address.host, port: options.probePort },
      probe: options.probe ?? engine.probe,
      onChange: (reason) => this.#served(reason),
    });
    this.gone = behind.gone.then((reason) => this.#finish(reason));
    this.ready = this.#start(options.readyMsMax ?? READY_MS_MAX);
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
    return this.#options.behind.usage();
  }

  onService(listener: (reason: string | null) => void): void {
    this.#onService = listener;
    if (this.#reason !== 'it starts') listener(this.#reason);
  }

  kill(cause: string): void {
    this.#cause ??= cause;
    this.#handler.fail(this.#cause);
    this.#options.behind.kill(this.#cause);
  }

  async stop(graceMs: number): Promise<void> {
    const end = performance.now() + graceMs;
    const timer = setTimeout(() => this.kill('it was stopped'), graceMs);
    await Promise.race([this.#handler.drain(), this.gone]);
    this.#prober.stop();
    this.#options.behind.leave(Math.max(0, end - performance.now()));
    await this.gone;
    clearTimeout(timer);
  }

  async #start(readyMsMax: number): Promise<void> {
    const { behind } = this.#options;
    const ended = this.gone.then((reason): never => {
      throw new Error([reason, ...(behind.tail?.() ?? [])].join('\n'));
    });
    ended.catch(() => undefined);
    const timer = setTimeout(
      () =>
        this.#probed.reject(new Error(`it was not ready after ${readyMsMax / 1000} s: ${this.#prober.text}`)),
      readyMsMax,
    );
    try {
      await Promise.race([ended, this.#probed.promise]);
      await Promise.race([ended, this.#inference.prepare(this.#ended.signal)]);
    } catch (error) {
      this.kill('it could not start');
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #infer(batch: HandlerBatch, context: HandlerContext, signal: AbortSignal): Promise<HandlerAnswer> {
    const answer = await this.#inference.infer(batch, context, signal);
    // A server of one thread answers no probe while it computes; that it has answered the batch is worth a question at once.
    if (this.#reason !== null) this.#prober.askNow();
    return answer;
  }

  #served(reason: string | null): void {
    this.#reason = reason;
    if (reason === null) this.#probed.resolve();
    this.#handler.serve(reason === null);
    this.#onService(reason);
  }

  /** How it ended, once it has; null while it lives: something still listens there. */
  async #broken(): Promise<string | null> {
    const { behind, address } = this.#options;
    const end = behind.gone.then((reason) => this.#cause ?? reason);
    // A process that dies closes what it has in any order: what it listened on may be the last.
    const early = await within(end, DYING_MS);
    if (early !== null) return early;
    if (await listens(address)) return null;
    return within(end, END_WAIT_MS);
  }

  #finish(reason: string): string {
    const told = this.#cause ?? reason;
    this.#ended.abort();
    this.#prober.stop();
    this.#handler.fail(told);
    void this.#connection.close();
    return told;
  }
}

const within = async <T>(promise: Promise<T>, ms: number): Promise<T | null> => {
  const timeout = Promise.withResolvers<null>();
  const timer = setTimeout(() => timeout.resolve(null), ms);
  const first = await Promise.race([promise, timeout.promise]);
  clearTimeout(timer);
  return first;
};

const listens = ({ host, port }: EngineAddress): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host, port, timeout: END_WAIT_MS });
    const done = (isListening: boolean): void => {
      socket.destroy();
      resolve(isListening);
    };
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
    socket.once('timeout', () => done(false));
  });

/**
 * The load generator: a process of its own, so that its CPU time is not counted with any server's and its event loop
 * measures nothing but itself. It takes one plan over IPC, runs it as a closed loop, answers one report and ends.
 */
import { Connection, type Reply } from './connection.ts';
import { Latencies } from './latencies.ts';
import type { LoadPlan, LoadReport } from './load.ts';

const ERRORS_MAX = 1000;

const requestsOf = (plan: LoadPlan): Buffer[] =>
  plan.bodies.map((body) => {
    const headers = Object.entries({ ...plan.headers, 'content-length': String(Buffer.byteLength(body)) });
    const head = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
    return Buffer.from(`POST ${plan.path} HTTP/1.1\r\nhost: ${plan.host}:${plan.port}\r\n${head}\r\n${body}`);
  });

class ClosedLoop {
  readonly #plan: LoadPlan;
  readonly #requests: Buffer[];
  readonly #latencies = new Latencies();
  readonly #failures = new Map<string, number>();
  readonly #markSeconds: number[] = [];
  readonly #connections = new Set<Connection>();
  readonly #done: (report: LoadReport) => void;
  readonly #timers: NodeJS.Timeout[] = [];
  #sent = 0;
  #answered = 0;
  #unexpected = 0;
  #stopped = false;
  #startedAt = 0;
  /** Requests are counted from here on: what the warm-up answered is not. */
  #countFrom = 0;

  constructor(plan: LoadPlan, done: (report: LoadReport) => void) {
    this.#plan = plan;
    this.#requests = requestsOf(plan);
    this.#done = done;
  }

  start(): void {
    this.#startedAt = performance.now();
    this.#countFrom = this.#startedAt + this.#plan.warmupSeconds * 1000;
    for (let i = 0; i < this.#plan.connections; i++) this.#open();
    if (this.#plan.seconds !== null) {
      this.#timers.push(
        setTimeout(() => this.#stop(), (this.#plan.warmupSeconds + this.#plan.seconds) * 1000),
      );
    }
    this.#timers.push(setTimeout(() => process.send?.('measuring'), this.#plan.warmupSeconds * 1000));
  }

  #open(): void {
    let sentAt = 0;
    const next = (): void => {
      if (this.#stopped || (this.#plan.requests !== null && this.#sent >= this.#plan.requests)) return;
      sentAt = performance.now();
      connection.send(this.#requests[this.#sent++ % this.#requests.length]!);
    };
    const connection = new Connection(this.#plan, {
      ready: next,
      reply: (reply) => {
        this.#count(reply, sentAt);
        next();
      },
      lost: (why) => {
        this.#connections.delete(connection);
        this.#fail(why);
        this.#answered += 1; // the request in flight is lost; without this a counted run would never end
        if (!this.#stopped) this.#open();
      },
    });
    this.#connections.add(connection);
  }

  #count(reply: Reply, sentAt: number): void {
    const now = performance.now();
    this.#answered += 1;
    if (reply.status !== this.#plan.expect.status) {
      this.#fail(`status ${reply.status}: ${reply.body().slice(0, 300)}`);
    } else if (now >= this.#countFrom) {
      this.#latencies.record((now - sentAt) * 1000);
      // Every 64th body is compared, so that a server that answers fast nonsense is not called fast.
      if ((this.#answered & 63) === 0 && !reply.body().includes(this.#plan.expect.text))
        this.#unexpected += 1;
    }
    const { requests, markEvery } = this.#plan;
    if (markEvery !== null && this.#answered % markEvery === 0) {
      this.#markSeconds.push((now - this.#startedAt) / 1000);
      process.send?.('mark');
    }
    if (requests !== null && this.#answered >= requests) this.#stop();
  }

  #fail(why: string): void {
    if (this.#stopped) return;
    const known = this.#failures.has(why) || this.#failures.size < 20;
    const key = known ? why : 'others';
    this.#failures.set(key, (this.#failures.get(key) ?? 0) + 1);
    if (this.#failures.get(key)! >= ERRORS_MAX) this.#stop();
  }

  #stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const connection of this.#connections) connection.end();
    const cpu = process.cpuUsage();
    this.#done({
      seconds: (performance.now() - this.#countFrom) / 1000,
      counts: Array.from(this.#latencies.counts),
      failures: [...this.#failures].map(([why, count]) => ({ why, count })),
      unexpected: this.#unexpected,
      markSeconds: this.#markSeconds,
      generatorCores: (cpu.user + cpu.system) / 1000 / (performance.now() - this.#startedAt),
    });
  }
}

process.once('message', (plan: LoadPlan) => {
  const loop = new ClosedLoop(plan, (report) => process.send!(report, () => process.disconnect()));
  loop.start();
});

/** No version goes that a call needs, whatever is deployed, admitted, moved, settled, swept and retired in between. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { LIMITS, runsOf, type StoreFactory } from './factory.ts';
import { okOutcomes, specOf, Workshop } from './workshop.ts';

const UNUSED_MS = 500;
const VERSIONS = 3;
/** How often each step is tried. */
const WEIGHTS = {
  ...{ deploy: 1, stage: 1, admit: 6, seal: 5, settle: 5, cancel: 1, repin: 2 },
  ...{ retire: 8, expire: 3, sweep: 1 },
};
type Verb = keyof typeof WEIGHTS;
type Step = { readonly verb: Verb; readonly pick: number; readonly size: number };
const VERBS = Object.entries(WEIGHTS).flatMap(([verb, weight]) => Array<Verb>(weight).fill(verb as Verb));
const step: fc.Arbitrary<Step> = fc.record({
  verb: fc.constantFrom(...VERBS),
  pick: fc.nat(1000),
  size: fc.nat(2),
});

type Known = { readonly id: number; readonly rows: number; sealed: number; version: FunctionVersion };

class Run {
  readonly #shop: Workshop;
  readonly #name: string;
  readonly #calls = new Map<number, Known>();
  /** Every version that was current once, so that somebody may still admit calls to it; those that went as well. */
  readonly #read = new Map<string, FunctionVersion>();
  /** Batches that are not settled, by version. */
  readonly #open = new Map<number, number>();

  constructor(shop: Workshop, name: string) {
    this.#shop = shop;
    this.#name = name;
  }

  async take({ verb, pick, size }: Step): Promise<void> {
    const { registry, retention } = this.#shop.store;
    this.#shop.now += 1;
    const { now } = this.#shop;
    if (verb === 'deploy' || verb === 'stage') await this.#deploy(pick, verb === 'stage');
    else if (verb === 'admit') await this.#admit(pick, 1 + size);
    else if (verb === 'seal') await this.#seal(pick, 1 + size);
    else if (verb === 'settle') await this.#settle(1);
    else if (verb === 'cancel') await this.#cancel(pick);
    else if (verb === 'repin') await this.#repin(pick);
    else if (verb === 'expire') this.#shop.now += LIMITS.retentionMs + UNUSED_MS;
    else if (verb === 'sweep') await retention.sweep({ now, limit: 100 });
    else {
      const digests = [...this.#read.keys()];
      await registry.retire({ now, name: this.#name, digests, unusedMs: UNUSED_MS });
    }
    await this.#check();
  }

  async deployAll(): Promise<void> {
    for (let nth = 0; nth < VERSIONS; nth += 1) await this.#deploy(nth, false);
  }

  async #deploy(pick: number, isStaged: boolean): Promise<void> {
    const { now } = this.#shop;
    const spec = specOf(this.#name, { callTimeoutMs: 1 + (pick % VERSIONS) });
    const { record } = await this.#shop.store.registry.deploy({ now, spec, isStaged });
    this.#read.set(record.current.digest, record.current);
  }

  /** As one whose reading of the function is old. */
  async #admit(pick: number, rows: number): Promise<void> {
    const version = [...this.#read.values()][pick % this.#read.size]!;
    try {
      const id = await this.#shop.admit(rows, { functionName: this.#name, versionId: version.id });
      this.#calls.set(id, { id, rows, sealed: 0, version });
    } catch (error) {
      expect(error).toMatchObject({ code: 'function_not_found' });
      expect((await this.#versions()).map(({ id }) => id)).not.toContain(version.id);
    }
  }

  async #seal(pick: number, rows: number): Promise<void> {
    const waiting = [...this.#calls.values()].filter((call) => call.sealed < call.rows);
    const call = waiting[pick % Math.max(1, waiting.length)];
    if (!call) return;
    const count = Math.min(rows, call.rows - call.sealed);
    this.#shop.versionId = call.version.id;
    const { batchId } = await this.#shop.seal([call.id, call.sealed, count]);
    expect(batchId).not.toBeNull();
    call.sealed += count;
    this.#open.set(call.version.id, (this.#open.get(call.version.id) ?? 0) + 1);
  }

  /** The batches of cancelled calls went with them, and then perhaps their version. */
  async #settle(most: number): Promise<void> {
    const there = new Set((await this.#versions()).map(({ id }) => id));
    for (const [versionId, batches] of this.#open) {
      if (batches === 0 || !there.has(versionId)) continue;
      this.#shop.versionId = versionId;
      const leased = await this.#shop.lease(most);
      for (const batch of leased) await this.#shop.settle(batch, okOutcomes(batch.slices));
      this.#open.set(versionId, leased.length < most ? 0 : batches - leased.length);
    }
  }

  async #cancel(pick: number): Promise<void> {
    const call = [...this.#calls.values()][pick % Math.max(1, this.#calls.size)];
    if (!call) return;
    await this.#shop.queue.cancel({ now: this.#shop.now, callId: call.id });
    call.sealed = call.rows;
  }

  async #repin(pick: number): Promise<void> {
    const versions = await this.#versions();
    const [from, to] = [versions[pick % versions.length]!, versions[(pick >> 3) % versions.length]!];
    const { now } = this.#shop;
    try {
      const query = { now, name: this.#name, from: from.digest, to: to.digest };
      await this.#shop.store.registry.repin(query);
    } catch (error) {
      // To a staged one nothing is moved.
      expect(error).toBeInstanceOf(SluiceError);
      return;
    }
    for (const call of this.#calls.values())
      if (call.version.id === from.id && call.sealed < call.rows) call.version = to;
  }

  async #versions(): Promise<readonly FunctionVersion[]> {
    return (await this.#shop.store.registry.function(this.#name))!.versions;
  }

  /** Every call that was accepted is of its own version, which is there, until its results are past their time. */
  async #check(): Promise<void> {
    const { queue } = this.#shop;
    const known = [...this.#calls.values()];
    const seen = known.map(({ id }) =>
      Promise.all([queue.call(id), queue.result({ callId: id, from: 0, bytesMax: 2 ** 30 })]),
    );
    const [versions, ...views] = await Promise.all([this.#versions(), ...seen]);
    const there = new Map(versions.map(({ id, digest }) => [id, digest]));
    for (const [nth, { id, version }] of known.entries()) {
      const [call, page] = views[nth]!;
      if (typeof call === 'object' && (call.expiresAt === null || call.expiresAt > this.#shop.now)) {
        expect([call.versionId, call.versionDigest]).toEqual([version.id, version.digest]);
        expect(there.get(version.id)).toBe(version.digest);
        expect(typeof page === 'object' && page.parts.length).toBeGreaterThan(0);
      } else {
        expect(call === 'gone' || call === undefined || call.expiresAt! <= this.#shop.now).toBe(true);
        this.#calls.delete(id);
      }
    }
  }

  /** What is left runs to its end. */
  async finish(): Promise<void> {
    for (const call of this.#calls.values()) if (call.sealed < call.rows) await this.#seal(0, call.rows);
    for (let nth = 0; this.#calls.size > nth; nth += 1) await this.#seal(0, 3);
    await this.#settle(100);
    for (const { id } of this.#calls.values()) expect((await this.#shop.call(id)).finishedAt).not.toBeNull();
    await this.#check();
  }
}

export const retiringSuite = (factory: StoreFactory): void => {
  it('retires no version that a call needs', async () => {
    await using shop = await Workshop.make(factory);
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
        runs += 1;
        const name = `f${runs}`;
        const run = new Run(shop, name);
        await run.deployAll();
        await shop.own(name);
        for (const one of steps) await run.take(one);
        await shop.own(name);
        await run.finish();
      }),
      { numRuns: runsOf(factory, 25) },
    );
  });

  it('retires no version that got a call after it was found unused', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const [old, first] = [(await registry.function('f'))!.current, shop.now];
    await registry.deploy({ now: ++shop.now, spec: specOf('f', { callTimeoutMs: 2 }) });
    const retire = () => registry.retire({ now: shop.now, name: 'f', digests: [old.digest], unusedMs: 10 });
    expect(await retire()).toEqual([]);
    shop.now = first + LIMITS.retentionMs + 20;
    // By a process that has not heard of the deploy, or had to wait for room.
    const call = await shop.admit(1);
    await shop.settleOk(await shop.run([call, 0, 1]));
    expect(await retire()).toEqual([]);
    expect(await shop.call(call)).toMatchObject({ versionId: old.id, versionDigest: old.digest });
    shop.now += LIMITS.retentionMs;
    expect(await retire()).toEqual([]);
    shop.now += 10;
    expect(await retire()).toEqual([old.digest]);
  });

  it('retires no version whose batches are not settled, wherever their calls were moved to', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const from = (await registry.function('f'))!.current.digest;
    const { record } = await registry.deploy({ now: ++shop.now, spec: specOf('f', { callTimeoutMs: 2 }) });
    const call = await shop.admit(2);
    await shop.seal([call, 0, 1]);
    const moved = await registry.repin({ now: shop.now, name: 'f', from, to: record.current.digest });
    expect(moved).toBe(1);
    const retire = () => registry.retire({ now: shop.now, name: 'f', digests: [from], unusedMs: 0 });
    expect([await retire(), await retire()]).toEqual([[], []]);
    await shop.settleOk(await shop.leaseOne());
    expect((await shop.call(call)).counts).toMatchObject({ ok: 1 });
  });

  it('gives the number of a version that went to no other soon', async () => {
    await using shop = await Workshop.make(factory);
    const { registry } = shop.store;
    const deploy = async (callTimeoutMs: number) =>
      (await registry.deploy({ now: ++shop.now, spec: specOf('f', { callTimeoutMs }) })).record.current;
    const gone = await deploy(2);
    await deploy(1000);
    const retire = () => registry.retire({ now: shop.now, name: 'f', digests: [gone.digest], unusedMs: 0 });
    await retire();
    await retire();
    expect((await deploy(3)).id).not.toBe(gone.id);
    expect((await deploy(4)).id).not.toBe(gone.id);
    await retire();
    await retire();
    expect((await registry.function('f'))!.versions.map(({ id }) => id)).not.toContain(gone.id);
  });
};

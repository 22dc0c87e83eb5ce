import { afterAll, beforeAll, expect, it } from 'vitest';
import { ServerClock, skewMsMaxOf } from '../../../shared/store/redis/clock.ts';
import { serialOfId } from '../../../shared/store/redis/layout.ts';
import type { Link } from '../../../shared/store/redis/link.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { newPrefix } from './homes.ts';
import { QueueRig } from './queue-rig.ts';

const HOUR_MS = 3_600_000;

/** A machine and a server, whose clocks run by themselves and may be set. */
class World {
  monotonic = 5000;
  here = 1_800_000_000_000;
  there = this.here;
  /** How long the way to the server and the way back take. */
  waysMs: [number, number] = [0, 0];
  asked = 0;
  onAsked = (): void => undefined;
  readonly clock: ServerClock;

  constructor() {
    const command = async () => {
      this.asked += 1;
      this.pass(this.waysMs[0]);
      const told = [Math.floor(this.there / 1000), (this.there % 1000) * 1000];
      this.pass(this.waysMs[1]);
      this.onAsked();
      return told.map((number) => Buffer.from(String(number)));
    };
    this.clock = new ServerClock(
      { command } as unknown as Link,
      1000,
      () => this.here,
      () => this.monotonic,
    );
  }

  pass(ms: number): void {
    this.monotonic += ms;
    this.here += ms;
    this.there += ms;
  }

  sleep(ms: number): void {
    this.here += ms;
    this.there += ms;
  }

  get isFaulty(): boolean {
    return this.clock.fault() !== null;
  }
}

it('keeps a clock that is off where a slow answer could be of one that is right', async () => {
  const world = new World();
  world.there += 1500;
  for (const ways of [
    [0, 0],
    [1600, 1600],
    [0, 0],
    [3000, 0],
    [0, 3000],
  ] as const) {
    world.waysMs = [...ways];
    await world.clock.measure();
    expect(world.isFaulty).toBe(true);
  }
  world.there -= 1500;
  await world.clock.measure();
  expect(world.isFaulty).toBe(false);
  world.waysMs = [1600, 1600];
  await world.clock.measure();
  expect(world.isFaulty).toBe(false);
});

it('asks the server before it calls a clock off for a sleep, also one during the answer', async () => {
  const world = new World();
  await world.clock.measure();
  world.sleep(60_000);
  expect(await world.clock.isOff()).toBe(false);
  expect(world.isFaulty).toBe(false);
  world.onAsked = () => {
    world.sleep(60_000);
    world.onAsked = () => undefined;
  };
  await world.clock.measure();
  expect(world.isFaulty).toBe(false);
  // What was measured is not asked again by each verb.
  world.here += 60_000;
  expect(await world.clock.isOff()).toBe(true);
  const { asked } = world;
  expect(await world.clock.isOff()).toBe(true);
  expect(world.asked).toBe(asked);
});

it('carries the agreed time on, whichever of the two clocks was set', async () => {
  for (const set of [HOUR_MS, -HOUR_MS])
    for (const which of ['here', 'there'] as const) {
      const world = new World();
      await world.clock.measure();
      const { here } = world;
      world[which] += set;
      await world.clock.measure();
      world.pass(7000);
      await world.clock.measure();
      expect(world.isFaulty).toBe(true);
      expect(world.clock.agreed(world.here)).toBe(here + 7000);
      // As soon as both are set to one time, that is the time.
      world[which === 'here' ? 'there' : 'here'] += set;
      await world.clock.measure();
      expect(world.clock.agreed(world.here)).toBe(world.here);
    }
});

it.each([
  [200, 500],
  [2000, 500],
  [3000, 750],
  [30_000, 1000],
])('at leases of %i ms lets a clock be off by %i ms', (leaseMs, skewMs) => {
  expect(skewMsMaxOf(leaseMs)).toBe(skewMs);
});

describeWithRedis('leases on a server whose clock was set', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  const open = async () => {
    const rig = await QueueRig.open(server.url, newPrefix());
    const times = { wallMs: 0, sleptMs: 0 };
    rig.now = Date.now();
    const clock = new ServerClock(
      rig.link,
      1000,
      () => Date.now() + times.wallMs,
      () => performance.now() - times.sleptMs,
    );
    Object.assign(rig.context, { clock });
    await rig.seal(await rig.admit(1), 0, 1);
    return { rig, clock, times };
  };

  it('end as if it had not been, and are set back from where wrong clocks had set them', async () => {
    const opened = await open();
    await using rig = opened.rig;
    const batch = (await rig.lease())[0]!;
    const endsIn = async (): Promise<number> =>
      Number(await rig.command('ZSCORE', 'lease-ends', serialOfId(batch.batchId))) - rig.now;
    const held = { leaseMs: 30_000, leases: [{ batchId: batch.batchId, token: batch.token }] };
    // The server is an hour ahead: the same to this machine as if all of its kind were an hour behind.
    const command = rig.link.command.bind(rig.link);
    rig.link.command = (async (name: string, ...args: string[]) => {
      const told = await command<Buffer[]>(name, ...args);
      return name === 'TIME' ? [Buffer.from(String(Number(told[0]) + 3600)), told[1]] : told;
    }) as typeof rig.link.command;
    await opened.clock.measure();
    expect(opened.clock.fault()).not.toBeNull();
    await rig.queue.extend({ now: rig.now, ...held });
    expect(await endsIn()).toBeCloseTo(30_000, -2);
    rig.link.command = command;
    await opened.clock.measure();
    await rig.queue.extend({ now: rig.now + HOUR_MS, ...held });
    await rig.queue.extend({ now: rig.now, ...held });
    expect(await endsIn()).toBe(30_000);
    rig.now += 30_001;
    expect(await rig.expire()).toMatchObject({ leases: 1 });
  });

  it('are given at once after a sleep', async () => {
    const opened = await open();
    await using rig = opened.rig;
    await opened.clock.measure();
    opened.times.sleptMs = 60_000;
    expect(opened.clock.fault()).not.toBeNull();
    expect(await rig.lease()).toHaveLength(1);
  });
});

/** Who owns which buffer, on virtual time: several processes over one shared coordination. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makeOwnership, OWNER_LEASE_MS, type Ownership } from '../../../services/buffer/ownership.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { VirtualTime } from '../../sim/virtual-time.ts';
import { SharedCoordination } from './shared-coordination.ts';

/** A look after the lease has ended finds it out. */
const MOVED_WITHIN_MS = OWNER_LEASE_MS + 1500;

/** One buffer process: its ownership, what it was told, and the ways in which it can be in trouble. */
class Process {
  readonly ownership: Ownership;
  readonly told: string[] = [];
  isCut = false;
  /** Its timers do not run: stopped by a signal, or in a long pause. */
  isPaused = false;
  readonly #late: (() => void)[] = [];

  constructor(room: Room, memberId: string) {
    const { clocks } = room.time;
    this.ownership = makeOwnership({
      store: room.shared.view(() => this.isCut),
      log: silentLog(),
      clocks: {
        ...clocks,
        after: (ms, work) => clocks.after(ms, () => (this.isPaused ? this.#late.push(work) : work())),
      },
      memberId,
      onGained: (name) => this.told.push(`+${name}`),
      onLost: (name) => this.told.push(`-${name}`),
      onLoad: () => undefined,
    });
  }

  owns(name: string): boolean {
    return this.ownership.fenceOf(name) !== null;
  }

  resume(): void {
    this.isPaused = false;
    for (const work of this.#late.splice(0)) work();
  }
}

class Room {
  readonly time = new VirtualTime();
  readonly shared = new SharedCoordination();
  readonly processes: Process[] = [];

  constructor(names: readonly string[]) {
    for (const name of names) this.shared.functions.add(name);
  }

  async add(): Promise<Process> {
    const process = new Process(this, `member-${this.processes.length}`);
    this.processes.push(process);
    await process.ownership.start();
    return process;
  }

  /** Lets time pass; what is asked for is answered before time goes on. */
  async pass(ms: number): Promise<void> {
    const end = this.time.now + ms;
    this.time.after(ms, () => undefined);
    while (this.time.now < end && this.time.step()) await new Promise((resolve) => setImmediate(resolve));
  }

  owners(name: string): Process[] {
    return this.processes.filter((process) => process.owns(name));
  }
}

const NAMES = Array.from({ length: 40 }, (_, n) => `f${n}`);

describe('one process on a shared store', () => {
  it('owns everything from its start on, and keeps one fence while it renews', async () => {
    const room = new Room(NAMES);
    const only = await room.add();
    const fences = NAMES.map((name) => only.ownership.fenceOf(name));
    expect(fences).not.toContain(null);
    await room.pass(60_000);
    expect(NAMES.map((name) => only.ownership.fenceOf(name))).toEqual(fences);
    expect(only.told).toEqual(NAMES.map((name) => `+${name}`));
  });

  it('owns a new function as soon as it is told of it, and forgets one that is gone', async () => {
    const room = new Room(['f']);
    const only = await room.add();
    room.shared.functions.add('g');
    only.ownership.changed('g');
    await room.pass(1);
    expect(only.owns('g')).toBe(true);
    room.shared.functions.delete('f');
    await room.pass(1500);
    expect(only.told).toEqual(['+f', '+g', '-f']);
    expect(room.shared.owners.has('f')).toBe(false);
  });
});

describe('a change', () => {
  it('of a function asks for that one if it is new, and for no other', async () => {
    const room = new Room(NAMES);
    const [first, second] = [await room.add(), await room.add()];
    await room.pass(2100);
    const { asked, functions } = room.shared;
    asked.length = 0;
    const told = (name: string): void => {
      for (const process of [first, second]) process.ownership.changed(name);
    };
    for (const name of NAMES) told(name);
    for (let n = 0; n < 20; n += 1) {
      functions.add(`g${n}`);
      told(`g${n}`);
    }
    await room.pass(1);
    expect(asked.toSorted()).toEqual(Array.from({ length: 20 }, (_, n) => `g${n}`).toSorted());
    for (const name of functions) expect(room.owners(name), name).toHaveLength(1);
    told('g1');
    await room.pass(1);
    expect(asked).toHaveLength(20);
  });

  it('that is told before the function can be read is asked for when it is told again', async () => {
    const room = new Room(['f']);
    const process = await room.add();
    room.shared.owners.set('g', { memberId: 'other', fence: 'theirs', until: room.time.wall + 100 });
    process.ownership.changed('g');
    await room.pass(1);
    await room.pass(100);
    expect(process.owns('g')).toBe(false);
    process.ownership.changed('g');
    await room.pass(1);
    expect(process.owns('g')).toBe(true);
  });
});

describe('several processes', () => {
  it('share the functions, and a new one gets its part within seconds', async () => {
    const room = new Room(NAMES);
    const first = await room.add();
    const second = await room.add();
    await room.pass(2000);
    for (const name of NAMES) expect(room.owners(name), name).toHaveLength(1);
    expect(second.told.length).toBeGreaterThan(0);
    const moved = first.told.filter((line) => line.startsWith('-')).map((line) => line.slice(1));
    expect(moved).toEqual(second.told.map((line) => line.slice(1)));
  });

  it('take over within seconds from one that dies, and keep what they had', async () => {
    const room = new Room(NAMES);
    const [first, second] = [await room.add(), await room.add()];
    await room.pass(2000);
    const kept = NAMES.filter((name) => first.owns(name));
    const fences = kept.map((name) => first.ownership.fenceOf(name));
    [second.isCut, second.isPaused] = [true, true];
    await room.pass(MOVED_WITHIN_MS);
    for (const name of NAMES) expect(first.owns(name), name).toBe(true);
    expect(kept.map((name) => first.ownership.fenceOf(name))).toEqual(fences);
  });

  it('take over at their next look from one that leaves', async () => {
    const room = new Room(NAMES);
    const [first, second] = [await room.add(), await room.add()];
    await room.pass(2000);
    await second.ownership.stop();
    expect(NAMES.some((name) => second.owns(name))).toBe(false);
    await room.pass(1001);
    for (const name of NAMES) expect(first.owns(name), name).toBe(true);
  });
});

describe('an owner', () => {
  it('that was paused for longer than its lease owns nothing when it goes on, before any timer ran', async () => {
    const room = new Room(['f']);
    const process = await room.add();
    process.isPaused = true;
    await room.pass(OWNER_LEASE_MS + 1);
    expect(process.owns('f')).toBe(false);
    process.resume();
    await room.pass(1);
    // Nobody took it meanwhile, and it is ours again; what was held is read anew all the same.
    expect(process.owns('f')).toBe(true);
    expect(process.told).toEqual(['+f', '-f', '+f']);
  });

  it('that cannot reach the store drops its buffers when the lease ends, and owns again afterwards', async () => {
    const room = new Room(['f']);
    const process = await room.add();
    process.isCut = true;
    await room.pass(OWNER_LEASE_MS - 100);
    expect(process.told).toEqual(['+f']);
    await room.pass(200);
    expect(process.told).toEqual(['+f', '-f']);
    process.isCut = false;
    await room.pass(1000);
    expect(process.told).toEqual(['+f', '-f', '+f']);
  });

  it('whose seal was fenced drops the buffer at once, and a fence of before drops nothing', async () => {
    const room = new Room(['f']);
    const process = await room.add();
    const fence = process.ownership.fenceOf('f')!;
    process.ownership.fenced('f', 'another');
    expect(process.owns('f')).toBe(true);
    room.shared.owners.set('f', { memberId: 'other', fence: 'theirs', until: room.time.wall + 100_000 });
    process.ownership.fenced('f', fence);
    expect(process.owns('f')).toBe(false);
    await room.pass(5000);
    expect(process.owns('f')).toBe(false);
    room.shared.owners.delete('f');
    await room.pass(1000);
    expect(process.owns('f')).toBe(true);
  });

  it('stops twice, and stops before it started', async () => {
    const room = new Room(['f']);
    const process = await room.add();
    await process.ownership.stop();
    await process.ownership.stop();
    expect(room.shared.owners.size).toBe(0);
    const other = new Process(room, 'other');
    await other.ownership.stop();
    await other.ownership.start();
    expect(other.told).toEqual([]);
  });
});

type Trouble = 'cut' | 'pause' | 'join' | 'leave' | 'heal';

describe('whatever happens', () => {
  const step = fc.record({
    what: fc.constantFrom<Trouble>('cut', 'pause', 'join', 'leave', 'heal'),
    who: fc.nat(),
    ms: fc.integer({ min: 0, max: 8000 }),
  });

  it('no two own one function, and all are owned once it is calm', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const room = new Room(NAMES.slice(0, 8));
        await room.add();
        for (const { what, who, ms } of steps) {
          const process = room.processes[who % room.processes.length]!;
          if (what === 'join' && room.processes.length < 5) await room.add();
          if (what === 'leave' && room.processes.length > 1) await process.ownership.stop();
          if (what === 'cut') process.isCut = true;
          if (what === 'pause') process.isPaused = true;
          if (what === 'heal') heal(process);
          await room.pass(ms);
          for (const name of room.shared.functions) expect(room.owners(name).length).toBeLessThanOrEqual(1);
        }
        for (const process of room.processes) heal(process);
        await room.add();
        await room.pass(MOVED_WITHIN_MS * 2);
        for (const name of room.shared.functions) expect(room.owners(name)).toHaveLength(1);
        for (const process of room.processes) expectAlternating(process.told);
      }),
      { numRuns: 40 },
    );
  });
});

const heal = (process: Process): void => {
  process.isCut = false;
  process.resume();
};

/** Gained and lost take turns for each function, so that a buffer is never made twice. */
const expectAlternating = (told: readonly string[]): void => {
  for (const name of NAMES) {
    const signs = told.filter((line) => line.slice(1) === name).map((line) => line[0]);
    signs.forEach((sign, at) => {
      expect(sign).toBe(at % 2 === 0 ? '+' : '-');
    });
  }
};

import type { Clocks } from '../../services/buffer/window.ts';

type Event = { at: number; order: number; work: () => void; cancelled: boolean };

/** Virtual time: events run in order of time; nothing waits. */
export class VirtualTime {
  /** Wall and monotonic milliseconds are the same here but for an offset, as a real machine's are. */
  now = 1_000;
  #events: Event[] = [];
  #order = 0;
  static readonly WALL_OFFSET = 1_700_000_000_000;

  get wall(): number {
    return this.now + VirtualTime.WALL_OFFSET;
  }

  readonly clocks: Clocks = {
    wall: () => this.wall,
    preciseWall: () => this.wall,
    monotonic: () => this.now,
    after: (ms, work) => this.after(ms, work),
  };

  after(ms: number, work: () => void): () => void {
    this.#order += 1;
    const event: Event = { at: this.now + Math.max(0, ms), order: this.#order, work, cancelled: false };
    this.#events.push(event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Runs the next event; false when none is left. */
  step(): boolean {
    this.#events = this.#events.filter((event) => !event.cancelled);
    let next: Event | undefined;
    for (const event of this.#events) {
      if (!next || event.at < next.at || (event.at === next.at && event.order < next.order)) next = event;
    }
    if (!next) return false;
    this.now = Math.max(this.now, next.at);
    next.cancelled = true;
    next.work();
    return true;
  }
}

/** Seeded damage to valid streams: bytes of the metadata, fewer of the bodies, and whole messages. */
import { joinBytes } from '../../../shared/arrow/batch-sink.ts';

/** A small generator of our own, so that a failure is found again by its seed. */
export function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * below);
  };
}

/** Where the messages of a valid stream begin, and the bytes of its metadata. */
function layoutOf(bytes: Uint8Array): { starts: number[]; places: number[] } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [starts, places]: [number[], number[]] = [[], []];
  let at = 0;
  while (at + 8 <= bytes.length) {
    starts.push(at);
    const length = view.getInt32(at + 4, true);
    if (length === 0) break;
    for (let i = at + 4; i < at + 8 + length; i++) places.push(i);
    at += 8 + length + bodyBytesOf(view, at + 8);
  }
  return { starts, places };
}

/** `bodyLength`, member 3 of the table Message. */
function bodyBytesOf(view: DataView, flat: number): number {
  const table = flat + view.getUint32(flat, true);
  const vtable = table - view.getInt32(table, true);
  const offset = view.getUint16(vtable, true) > 10 ? view.getUint16(vtable + 10, true) : 0;
  return offset === 0 ? 0 : Number(view.getBigInt64(table + offset, true));
}

const BYTES = [0, 1, 2, 4, 8, 0x7f, 0x80, 0xff];

/** The stream with one to three bytes changed, or, one time in eight, with a message left out, repeated or moved. */
export function mutated(bytes: Uint8Array, seed: number): Uint8Array {
  const next = random(Math.imul(seed, 7919) + bytes.length);
  const { starts, places } = layoutOf(bytes);
  if (next(8) === 0 && starts.length > 2) {
    const messages = starts.map((start, i) => bytes.subarray(start, starts[i + 1] ?? bytes.length));
    const [from, to] = [1 + next(messages.length - 2), next(3)];
    const [moved] = messages.splice(from, to === 2 ? 0 : 1);
    if (to > 0) messages.splice(1 + next(messages.length - 1), 0, moved ?? messages[from]!);
    return joinBytes(messages);
  }
  const broken = bytes.slice();
  for (let flips = 1 + next(3); flips > 0; flips--) {
    const at = next(8) === 0 ? next(broken.length) : places[next(places.length)]!;
    broken[at] = next(3) === 0 ? broken[at]! ^ (1 << next(8)) : (BYTES[next(10)] ?? next(256));
  }
  return broken;
}

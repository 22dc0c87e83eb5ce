/** Encapsulated messages of the Arrow IPC format (arrow/format/Message.fbs): framing and batch metadata. */
import { Builder } from 'flatbuffers';

export const MESSAGE_SCHEMA = 1;
export const MESSAGE_DICTIONARY = 2;
export const MESSAGE_BATCH = 3;

/** MetadataVersion.V5, and V4, whose batches are laid out alike for all types that are supported. */
export const VERSION_V5 = 4;
export const VERSION_V4 = 3;

/** Continuation marker and length 0: the end of a stream. */
export const END_OF_STREAM: Uint8Array = new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/** Finishes the flatbuffer and puts marker, length and padding (to 8 bytes) around it. */
export function frameMessage(b: Builder, kind: number, header: number, bodyBytes: number): Uint8Array {
  b.startObject(5);
  b.addFieldInt64(3, BigInt(bodyBytes), 0n);
  b.addFieldOffset(2, header, 0);
  b.addFieldInt16(0, VERSION_V5, 0);
  b.addFieldInt8(1, kind, 0);
  b.finish(b.endObject());
  const flat = b.asUint8Array();
  const length = (flat.length + 7) & ~7;
  const out = new Uint8Array(8 + length);
  new DataView(out.buffer).setUint32(0, 0xffffffff, true);
  new DataView(out.buffer).setInt32(4, length, true);
  out.set(flat, 8);
  return out;
}

/** What the metadata of a batch says. `nodes`: length, null count, …; `regions`: offset, length, … */
export type BatchMetadata = {
  readonly rows: number;
  readonly nodes: readonly number[];
  readonly regions: readonly number[];
  readonly bodyBytes: number;
};

export function batchMessage(batch: BatchMetadata): Uint8Array {
  const b = new Builder(512);
  return frameMessage(b, MESSAGE_BATCH, writeBatch(b, batch), batch.bodyBytes);
}

export function dictionaryMessage(batch: BatchMetadata, id: number, isDelta: boolean): Uint8Array {
  const b = new Builder(512);
  const data = writeBatch(b, batch);
  b.startObject(3);
  b.addFieldInt64(0, BigInt(id), 0n);
  b.addFieldOffset(1, data, 0);
  b.addFieldInt8(2, isDelta ? 1 : 0, 0);
  return frameMessage(b, MESSAGE_DICTIONARY, b.endObject(), batch.bodyBytes);
}

function writeBatch(b: Builder, batch: BatchMetadata): number {
  const nodes = pairs(b, batch.nodes);
  const regions = pairs(b, batch.regions);
  b.startObject(5);
  b.addFieldInt64(0, BigInt(batch.rows), 0n);
  b.addFieldOffset(1, nodes, 0);
  b.addFieldOffset(2, regions, 0);
  return b.endObject();
}

/** A vector of structs of two 64-bit integers. */
function pairs(b: Builder, items: readonly number[]): number {
  b.startVector(16, items.length / 2, 8);
  for (let i = items.length - 1; i >= 0; i--) {
    b.writeInt32(Math.floor(items[i]! / 4294967296));
    b.writeInt32(items[i]! | 0);
  }
  return b.endVector();
}

/** The end of an Arrow IPC file (arrow/format/File.fbs): where its record batches lie. */
import { Builder } from 'flatbuffers';
import type { FieldJson } from '../domain/function.ts';
import { nodesOf } from './array-node.ts';
import { END_OF_STREAM, VERSION_V5 } from './message-frame.ts';
import { writeSchema } from './schema-message.ts';

/** A file begins with this, padded to 8 bytes, and ends with its first six bytes. */
export const FILE_MAGIC: Uint8Array = new TextEncoder().encode('ARROW1\0\0');

/** One record batch message: its offset in the file, the bytes of its metadata with prefix and padding, of its body. */
export type FileBlock = {
  readonly offset: number;
  readonly metadataBytes: number;
  readonly bodyBytes: number;
};

/** All that follows the last record batch. The fields must have no dictionaries, whose blocks are not written. */
export function fileFooter(fields: readonly FieldJson[], blocks: readonly FileBlock[]): Uint8Array[] {
  const b = new Builder(1024 + blocks.length * 24);
  const schema = writeSchema(b, nodesOf(fields));
  b.startVector(24, blocks.length, 8);
  for (let i = blocks.length - 1; i >= 0; i--) writeBlock(b, blocks[i]!);
  const batches = b.endVector();
  b.startVector(24, 0, 8);
  const dictionaries = b.endVector();
  b.startObject(5);
  b.addFieldInt16(0, VERSION_V5, 0);
  b.addFieldOffset(1, schema, 0);
  b.addFieldOffset(2, dictionaries, 0);
  b.addFieldOffset(3, batches, 0);
  b.finish(b.endObject());
  const footer = b.asUint8Array();
  const length = new Uint8Array(4);
  new DataView(length.buffer).setInt32(0, footer.length, true);
  return [END_OF_STREAM, footer, length, FILE_MAGIC.subarray(0, 6)];
}

function writeBlock(b: Builder, { offset, metadataBytes, bodyBytes }: FileBlock): void {
  b.prep(8, 24);
  b.writeInt64(BigInt(bodyBytes));
  b.pad(4);
  b.writeInt32(metadataBytes);
  b.writeInt64(BigInt(offset));
}

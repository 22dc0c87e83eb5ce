/** Payloads and outputs, from memory, from their rows, or from segments. */
import { SluiceError } from '../../errors/sluice-error.ts';
import type { Ledger } from './ledger.ts';
import type { LiveCall } from './model.ts';
import { DamagedSegment, type SegmentRef } from './segments.ts';
import { shared } from './sharing.ts';

const readSegment = (ledger: Ledger, ref: SegmentRef): Uint8Array => {
  try {
    return ledger.segments.read(ref);
  } catch (error) {
    if (error instanceof DamagedSegment) throw new SluiceError('internal', error.message);
    throw error;
  }
};

/** Text of a JSON payload, bytes of an Arrow one. */
export const readPayload = (ledger: Ledger, call: LiveCall): string | Uint8Array => {
  const { payload } = call;
  if (payload === undefined) {
    const row = ledger.sql.livePayload.get(call.id) as { payload: string | Uint8Array } | undefined;
    if (row === undefined) throw new SluiceError('internal', `The payload of call ${call.id} is not there.`);
    return row.payload;
  }
  if (typeof payload === 'string' || payload instanceof Uint8Array) return payload;
  let bytes = ledger.blobs.get(-call.id);
  if (bytes === undefined) {
    bytes = readSegment(ledger, payload);
    ledger.blobs.set(-call.id, bytes);
  }
  return payload.kind === 0
    ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
    : bytes;
};

type OutputRow = { segment: number | null; at: number; length: number; output: Uint8Array | null };

/** The output of a settled batch. */
export const readOutput = (ledger: Ledger, batchId: number): Uint8Array => {
  const cached = ledger.blobs.get(batchId);
  if (cached !== undefined) return cached;
  const row = ledger.sql.batchOutput.get(batchId) as OutputRow | undefined;
  const bytes =
    row?.segment != null
      ? readSegment(ledger, { segment: row.segment, at: row.at, length: row.length })
      : row?.output && shared(row.output);
  if (!bytes) throw new SluiceError('internal', `The output of batch ${batchId} is not there.`);
  ledger.blobs.set(batchId, bytes);
  return bytes;
};

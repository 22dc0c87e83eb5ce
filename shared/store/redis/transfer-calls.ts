/** A call of another store as scripts/transfer-calls.lua takes it. */
import type { RowError } from '../../domain/call.ts';
import { packExtra } from '../extra.ts';
import type { Admission } from '../ports/queue.ts';
import type { TransferCall } from '../ports/transfer.ts';
import { objectKind, PART, pack, payloadOf, STATUSES } from './packing.ts';

/** This store's numbers for the source's ids: calls, outputs and batches, and the records of a call's errors. */
export type Numbers = {
  readonly call: (id: number) => number;
  readonly record: (id: number) => number;
  readonly errors: (callId: number) => number;
};

export type ArrivingCall = {
  readonly value: Buffer;
  readonly payload: Uint8Array;
  readonly parts: Uint8Array;
  readonly errors: { readonly record: number; readonly text: string } | null;
  readonly facts: readonly unknown[];
};

/** As scripts/parts/calls.lua: more parts go to a key of their own. */
const PARTS_INLINE = 4;
const PART_WIDTH = 5;
const NOTHING = new Uint8Array();
const HEADER_BYTES = 11;

type Parts = { readonly numbers: number[]; readonly errors: RowError[]; readonly records: number[] };

const partsOf = (call: TransferCall, numbers: Numbers): Parts => {
  const flat: number[] = [];
  const places = new Map<string, number>();
  const records = new Set<number>();
  const errorsRecord = numbers.errors(call.id);
  for (const part of call.parts) {
    if (part.state === 'ok') {
      const record = numbers.record(part.outputId);
      records.add(record);
      flat.push(PART.ok, part.from, part.count, record, part.outputRow);
    } else if (part.state === 'failed') {
      const text = JSON.stringify(part.error);
      const place = places.get(text) ?? places.size;
      places.set(text, place);
      records.add(errorsRecord);
      flat.push(PART.failed, part.from, part.count, errorsRecord, place);
    } else {
      flat.push(PART[part.state], part.from, part.count, 0, 0);
    }
  }
  return {
    numbers: flat,
    errors: [...places.keys()].map((text) => JSON.parse(text) as RowError),
    records: [...records],
  };
};

const settledOf = ({ parts }: TransferCall): number => parts.reduce((sum, { count }) => sum + count, 0);

/** The value of scripts/parts/calls.lua. */
const pieceTogether = (status: number, stamp: number, head: Buffer, payload: Uint8Array): Buffer => {
  const header = Buffer.alloc(HEADER_BYTES);
  header[0] = status;
  header.writeUIntBE(head.byteLength, 1, 3);
  header[4] = Math.floor(stamp / 2 ** 48);
  header.writeUIntBE(stamp % 2 ** 48, 5, 6);
  return Buffer.concat([header, head, payload]);
};

const storedPayload = (call: Pick<Admission, 'payload'>, reference: string | null) =>
  reference === null
    ? payloadOf(call as Admission)
    : { kind: objectKind(call), bytes: Buffer.from(reference) };

export const arrivingCall = (
  call: TransferCall,
  v: number,
  numbers: Numbers,
  stamp: number,
  /** Of its payload in the bucket; null: it lies in Redis. */
  reference: string | null,
): ArrivingCall => {
  const isLive = call.payload !== null;
  const payload = isLive
    ? storedPayload(call as unknown as Admission, reference)
    : { kind: 0, bytes: NOTHING };
  const isApart = payload.kind === 2 || payload.kind === 3;
  const idempotency = call.idempotency !== null && `${call.apiKeyId}:${call.idempotency.key}`;
  const { numbers: parts, errors, records } = partsOf(call, numbers);
  const hasOwnParts = parts.length > PARTS_INLINE * PART_WIDTH;
  const settled = settledOf(call);
  const head: unknown[] = [v, call.apiKeyId, call.rows, call.bytes, call.arrivedAt, call.deadlineAt ?? false];
  head.push(packExtra(call) ?? false, payload.kind, idempotency);
  if (!isLive || call.sealedRows > 0 || call.startedAt !== null) {
    const startedAt = call.startedAt ?? false;
    head.push(call.sealedRows, settled, call.counts.failed, call.counts.expired, startedAt);
    head.push(startedAt, call.handlerMs, false, hasOwnParts || (parts.length > 0 && parts));
  }
  if (!isLive) head.push(call.finishedAt, call.expiresAt, call.counts.cancelled, PART.cancelled);
  const status = isLive ? Number(settled > 0 || call.startedAt !== null) : STATUSES.indexOf(call.status);
  return {
    value: pieceTogether(status, stamp, pack(head), isApart ? NOTHING : payload.bytes),
    payload: isApart ? payload.bytes : NOTHING,
    parts: hasOwnParts ? pack(parts) : NOTHING,
    errors: errors.length === 0 ? null : { record: numbers.errors(call.id), text: JSON.stringify(errors) },
    facts: [
      numbers.call(call.id),
      isLive ? 1 : 0,
      call.rows - call.sealedRows,
      call.sealedRows - settled,
      isLive ? Math.floor((call.bytes * (call.rows - settled)) / call.rows) : 0,
      call.deadlineAt ?? false,
      idempotency,
      call.idempotency?.bodyDigest ?? '',
      call.expiresAt ?? false,
      records,
      reference ?? false,
    ],
  };
};

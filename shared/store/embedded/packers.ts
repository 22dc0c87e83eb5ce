/** Turns the port's objects into packed messages and back, on the client's side. */
import type { CallStatus, Slice } from '../../domain/call.ts';
import { packExtra, parseExtra } from '../extra.ts';
import { packOutcomes } from '../packed-outcomes.ts';
import type {
  Admission,
  CallEvent,
  LeasedBatch,
  Settlement,
  StoreEvents,
  WaitingCall,
} from '../ports/queue.ts';
import {
  ADMIT_WIDTH,
  type AdmitRequest,
  CALL_EVENT_WIDTH,
  type CallEventsMessage,
  type EventMessage,
  INLINE_BYTES_MAX,
  LEASED_CALL_WIDTH,
  type LeasedMessage,
  type PackedPayload,
  type SettleMessage,
  WAITING_WIDTH,
  type WaitingMessage,
} from './messages.ts';
import { MODES, REASONS, SLICE_WIDTH, STATUSES } from './model.ts';
import { shared } from './sharing.ts';

/** Bytes as they may cross: large ones in shared memory, small ones without the rest of their buffer. */
const portable = (bytes: Uint8Array): Uint8Array => {
  const crossing = shared(bytes);
  return crossing.byteLength === crossing.buffer.byteLength || crossing.buffer instanceof SharedArrayBuffer
    ? crossing
    : crossing.slice();
};

const packPayload = ({ payload, rows }: Admission): PackedPayload => {
  if (payload.kind === 'arrow') return portable(payload.bytes);
  // A text has at most as many UTF-16 units as UTF-8 bytes, and at most three times as many bytes.
  if (rows === 0 || payload.text.length <= INLINE_BYTES_MAX) return payload.text;
  return { utf8: portable(Buffer.from(payload.text)) };
};

export const packAdmissions = (admissions: readonly Admission[]): AdmitRequest => {
  const numbers = new Float64Array(admissions.length * ADMIT_WIDTH);
  const [functions, payloads, extras, idempotency] = [[], [], [], []] as [
    string[],
    PackedPayload[],
    (string | null)[],
    AdmitRequest['idempotency'][number][],
  ];
  admissions.forEach((one, index) => {
    const fields = [
      one.now,
      one.versionId,
      one.apiKeyId,
      one.rows,
      one.bytes,
      one.deadlineAt ?? Number.NaN,
      one.watch ? 1 : 0,
    ];
    numbers.set(fields, index * ADMIT_WIDTH);
    functions.push(one.functionName);
    payloads.push(packPayload(one));
    extras.push(packExtra(one));
    idempotency.push(one.idempotency);
  });
  return { numbers, functions, payloads, extras, idempotency };
};

export const packSlices = (slices: readonly Slice[]): number[] => {
  const numbers: number[] = [];
  for (const { callId, from, count } of slices) numbers.push(callId, from, count);
  return numbers;
};

export const unpackSlices = (numbers: readonly number[]): Slice[] => {
  const slices: Slice[] = [];
  for (let at = 0; at < numbers.length; at += SLICE_WIDTH) {
    slices.push({ callId: numbers[at]!, from: numbers[at + 1]!, count: numbers[at + 2]! });
  }
  return slices;
};

export const packSettlement = (settlement: Settlement): SettleMessage => {
  const { now, batchId, token, startedAt, handlerMs, output } = settlement;
  const { outcomes, errors } = packOutcomes(settlement.outcomes, (callId) => callId);
  const continuations = settlement.continuations.map((part) => ({
    slices: packSlices(part.slices),
    attempts: part.attempts,
    claims: part.claims,
    mode: MODES.indexOf(part.mode),
    notBefore: part.notBefore,
  }));
  return {
    now,
    batchId,
    token,
    outcomes,
    errors,
    output: output && portable(output),
    continuations,
    startedAt,
    handlerMs,
  };
};

export const unpackLeased = (message: LeasedMessage): LeasedBatch => {
  const { calls, payloads, extras } = message;
  return {
    batchId: message.batchId,
    versionId: message.versionId,
    token: message.token,
    attempts: message.attempts,
    claims: message.claims,
    mode: MODES[message.mode]!,
    reason: REASONS[message.reason]!,
    leaseUntil: message.leaseUntil,
    slices: unpackSlices(message.slices),
    calls: payloads.map((payload, index) => {
      const at = index * LEASED_CALL_WIDTH;
      const { metadata, traceparent } = parseExtra(extras[index]!);
      return {
        callId: calls[at]!,
        rows: calls[at + 1]!,
        payload:
          typeof payload === 'string' ? { kind: 'json', text: payload } : { kind: 'arrow', bytes: payload },
        arrivedAt: calls[at + 2]!,
        deadlineAt: orNull(calls[at + 3]!),
        metadata,
        traceparent,
      };
    }),
  };
};

const orNull = (value: number): number | null => (Number.isNaN(value) ? null : value);

export const unpackWaiting = ({ numbers, extras }: WaitingMessage): WaitingCall[] =>
  extras.map((extra, index) => {
    const at = index * WAITING_WIDTH;
    const { priority, lane, schemaKey } = parseExtra(extra);
    return {
      callId: numbers[at]!,
      versionId: numbers[at + 1]!,
      from: numbers[at + 2]!,
      rows: numbers[at + 3]!,
      bytes: numbers[at + 4]!,
      arrivedAt: numbers[at + 5]!,
      deadlineAt: orNull(numbers[at + 6]!),
      priority,
      lane,
      schemaKey,
    };
  });

export const unpackCalls = ({ numbers, outputs, parts }: CallEventsMessage): CallEvent[] =>
  parts.map((given, index) => {
    const at = index * CALL_EVENT_WIDTH;
    const field = (offset: number): number => numbers[at + offset]!;
    const [rows, failed, cancelled, expired] = [field(2), field(3), field(4), field(5)];
    const output = outputs[field(9)];
    return {
      callId: field(0),
      status: STATUSES[field(1)] as CallStatus,
      rows,
      counts: { ok: rows - failed - cancelled - expired - field(6), failed, cancelled, expired },
      queueMs: orNull(field(7)),
      handlerMs: field(8),
      parts:
        output === undefined ? given : [{ state: 'ok', from: 0, count: rows, output, outputRow: field(10) }],
    };
  });

export const unpackEvent = (event: EventMessage): StoreEvents[keyof Omit<StoreEvents, 'call'>] =>
  event.kind === 'waiting'
    ? unpackWaiting(event.value)
    : (event.value as StoreEvents['slots' | 'ready' | 'ended' | 'functions']);

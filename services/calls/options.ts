/** A submission's options: members of a JSON body, or headers for Arrow. Bad ones name the field, the value and the range. */
import type { IncomingHttpHeaders } from 'node:http';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { isTraceparent } from '../../shared/runtime/tracing.ts';
import {
  DEADLINE_MS_MAX,
  IDEMPOTENCY_KEY_CHARACTERS_MAX as KEY_CHARACTERS_MAX,
  LANE_CHARACTERS_MAX,
  METADATA_BYTES_MAX,
  PRIORITY_MAX,
} from '../../shared/wire/schemas.ts';

export type SubmitOptions = {
  readonly priority: number;
  /** null: the API key's lane. */
  readonly lane: string | null;
  readonly deadlineMs: number | null;
  readonly metadata: Readonly<Record<string, string>>;
};

const NO_METADATA: Readonly<Record<string, string>> = Object.freeze({});
const PLAIN: SubmitOptions = Object.freeze({
  priority: 0,
  lane: null,
  deadlineMs: null,
  metadata: NO_METADATA,
});

const shownOf = (value: unknown): string => {
  // What came may be large or deep; only what is short by its kind is shown as it is.
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  return JSON.stringify(value)?.slice(0, 80) ?? 'missing';
};

const refuse = (field: string, value: unknown, want: string): never => {
  const shown = shownOf(value);
  throw new SluiceError('invalid_request', `${field} is ${shown}; give ${want}.`, { field });
};

const priorityOf = (field: string, value: unknown): number => {
  const fits = Number.isInteger(value) && Math.abs(value as number) <= PRIORITY_MAX;
  return fits
    ? (value as number)
    : refuse(field, value, `a whole number from -${PRIORITY_MAX} to ${PRIORITY_MAX}`);
};

const laneOf = (field: string, value: unknown): string =>
  typeof value === 'string' && value.length <= LANE_CHARACTERS_MAX
    ? value
    : refuse(field, value, `a string of at most ${LANE_CHARACTERS_MAX} characters`);

const deadlineOf = (field: string, value: unknown): number =>
  typeof value === 'number' && value > 0 && value <= DEADLINE_MS_MAX
    ? Math.ceil(value)
    : refuse(field, value, `milliseconds from now, above 0 and at most ${DEADLINE_MS_MAX}`);

const metadataOf = (field: string, value: unknown): Readonly<Record<string, string>> => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuse(field, value, 'an object of strings');
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') refuse(`${field}.${key.slice(0, 64)}`, text, 'a string');
  }
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes > METADATA_BYTES_MAX) refuse(field, `${bytes} bytes`, `at most ${METADATA_BYTES_MAX} bytes`);
  return value as Record<string, string>;
};

const parsedHeader = (field: string, text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return refuse(field, text, 'a JSON object of strings');
  }
};

const numeric = (text: string): unknown => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text);

const single = (field: string, value: string | string[]): string =>
  typeof value === 'string' ? value : refuse(field, value, 'the header once');

export const headerOptions = (headers: IncomingHttpHeaders): SubmitOptions => {
  const priority = headers['sluice-priority'];
  const lane = headers['sluice-lane'];
  const deadline = headers['sluice-deadline-ms'];
  const metadata = headers['sluice-metadata'];
  if (!(priority || lane || deadline || metadata)) return PLAIN;
  const text = (field: string, value: string | string[]): string => single(field, value);
  return {
    priority: priority
      ? priorityOf('Sluice-Priority', numeric(text('Sluice-Priority', priority)))
      : PLAIN.priority,
    lane: lane ? laneOf('Sluice-Lane', decodedText(text('Sluice-Lane', lane))) : null,
    deadlineMs: deadline
      ? deadlineOf('Sluice-Deadline-Ms', numeric(text('Sluice-Deadline-Ms', deadline)))
      : null,
    metadata: metadata
      ? metadataOf(
          'Sluice-Metadata',
          parsedHeader('Sluice-Metadata', decodedText(text('Sluice-Metadata', metadata))),
        )
      : NO_METADATA,
  };
};

/** Node reads header bytes as Latin-1; clients send UTF-8. */
const decodedText = (header: string): string => Buffer.from(header, 'latin1').toString('utf8');

export type JsonSubmission = {
  readonly columns?: unknown;
  readonly rows?: unknown;
  readonly priority?: unknown;
  readonly lane?: unknown;
  readonly deadline_ms?: unknown;
  readonly metadata?: unknown;
};

const MEMBERS = new Set(['columns', 'rows', 'priority', 'lane', 'deadline_ms', 'metadata']);

/** Members of the body on top of the headers. Unknown members are refused: most are typing errors. */
export const bodyOptions = (body: JsonSubmission, headers: SubmitOptions): SubmitOptions => {
  let members = 0;
  for (const name of Object.keys(body)) {
    if (!MEMBERS.has(name)) refuse(name.slice(0, 64), 'there', `one of ${[...MEMBERS].join(', ')}`);
    members += 1;
  }
  if (members === 1) return headers;
  const { priority, lane, deadline_ms: deadline, metadata } = body;
  return {
    priority: priority === undefined ? headers.priority : priorityOf('priority', priority),
    lane: lane === undefined ? headers.lane : laneOf('lane', lane),
    deadlineMs:
      deadline === undefined || deadline === null ? headers.deadlineMs : deadlineOf('deadline_ms', deadline),
    metadata: metadata === undefined ? headers.metadata : metadataOf('metadata', metadata),
  };
};

export const idempotencyKey = (headers: IncomingHttpHeaders): string | null => {
  const value = headers['idempotency-key'];
  if (value === undefined) return null;
  const key = single('Idempotency-Key', value);
  return key.length > 0 && key.length <= KEY_CHARACTERS_MAX && /^[\x20-\x7e]+$/.test(key)
    ? key
    : refuse('Idempotency-Key', key, `1 to ${KEY_CHARACTERS_MAX} printable ASCII characters, once`);
};

/** The W3C trace context; an invalid one is no error, it is as if it were not there (its specification says so). */
export const traceparentOf = (headers: IncomingHttpHeaders): string | null => {
  const value = headers.traceparent;
  return typeof value === 'string' && value.length <= 256 && isTraceparent(value) ? value : null;
};

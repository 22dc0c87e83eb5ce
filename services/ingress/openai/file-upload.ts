/** A file in a multipart body, streamed to an artifact: what is in memory is a piece of it. */
import type { FastifyRequest } from 'fastify';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import type { Artifacts } from '../../../shared/store/ports/artifacts.ts';
import { ArtifactSpool, type Piece } from '../../batches/artifact-spool.ts';
import { CallerGone } from '../waited-call.ts';

/** OpenAI's limit of a file; a batch takes any number of lines of it. */
export const FILE_BYTES_MAX = 512 * 2 ** 20;
const FIELDS = ['purpose', 'expires_after[anchor]', 'expires_after[seconds]'];
const FIELDS_MAX = 20;
const FIELD_BYTES_MAX = 1024;
const FILENAME_CHARACTERS_MAX = 255;
/** Bounds of a file's life, as at OpenAI: an hour to thirty days. */
const SECONDS_MIN = 3600;
const SECONDS_MAX = 2_592_000;

export const MULTIPART_LIMITS = {
  fileSize: FILE_BYTES_MAX,
  files: 1,
  fields: FIELDS_MAX,
  fieldSize: FIELD_BYTES_MAX,
  fieldNameSize: 100,
  parts: FIELDS_MAX + 1,
  headerPairs: 50,
};

export type Upload = { readonly filename: string; readonly piece: Piece; readonly seconds: number | null };

const refuse = (field: string, detail: string): never => {
  throw new SluiceError('invalid_request', detail, { field });
};

const tooLarge = (): SluiceError =>
  new SluiceError(
    'payload_too_large',
    `The file is larger than ${FILE_BYTES_MAX} bytes; send it as several.`,
    {
      field: 'file',
    },
  );

/** The parser's own errors have codes and statuses, and no field; a connection that is cut is the caller who leaves. */
const clearer = (error: unknown): unknown => {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (code === 'ECONNRESET') return new CallerGone();
  if (code === 'FST_REQ_FILE_TOO_LARGE') return tooLarge();
  if (code === 'FST_FILES_LIMIT')
    return new SluiceError(
      'invalid_request',
      'The body has several files; send each with a request of its own.',
      {
        field: 'file',
      },
    );
  const isOurs = error instanceof SluiceError || (typeof code === 'string' && !code.startsWith('FST_'));
  if (isOurs) return error;
  return new SluiceError(
    'invalid_request',
    `The multipart body is not whole, or not valid: ${String(message)}.`,
    {
      field: 'file',
    },
  );
};

/**
 * The fields may come before the file or after it.
 * @throws SluiceError `invalid_request`, `payload_too_large`, `disk_full`; CallerGone
 */
export const takeUpload = async (request: FastifyRequest, artifacts: Artifacts): Promise<Upload> => {
  const spool = await ArtifactSpool.open();
  try {
    const { fields, filename } = await read(request, spool).catch((error: unknown) => {
      throw clearer(error);
    });
    const purpose = fields.get('purpose');
    if (purpose !== 'batch')
      refuse(
        'purpose',
        `purpose is ${JSON.stringify(purpose ?? 'missing')}; files are taken for "batch" alone.`,
      );
    if (filename === null) return refuse('file', 'The body has no file; send one in the part "file".');
    const seconds = secondsOf(fields);
    const piece = await spool.keep(artifacts);
    return piece === null
      ? refuse('file', 'The file is empty; send at least one line.')
      : { filename: filename.slice(0, FILENAME_CHARACTERS_MAX), piece, seconds };
  } finally {
    await spool.close();
  }
};

const read = async (
  request: FastifyRequest,
  spool: ArtifactSpool,
): Promise<{ readonly fields: ReadonlyMap<string, string>; readonly filename: string | null }> => {
  const fields = new Map<string, string>();
  let filename: string | null = null;
  for await (const part of request.parts()) {
    if (part.type === 'field') {
      if (!FIELDS.includes(part.fieldname))
        refuse(
          part.fieldname,
          `${part.fieldname} is no part of this route; it takes ${FIELDS.join(', ')} and file.`,
        );
      if (part.valueTruncated)
        refuse(part.fieldname, `${part.fieldname} is longer than ${FIELD_BYTES_MAX} bytes.`);
      fields.set(part.fieldname, String(part.value));
      continue;
    }
    if (part.fieldname !== 'file')
      refuse(part.fieldname, `The file is in the part ${JSON.stringify(part.fieldname)}; send it in "file".`);
    filename = part.filename === '' || part.filename === undefined ? 'file.jsonl' : part.filename;
    for await (const chunk of part.file) await spool.write(chunk as Uint8Array);
    if (part.file.truncated) throw tooLarge();
  }
  return { fields, filename };
};

/** null: it stays until it is deleted. */
const secondsOf = (fields: ReadonlyMap<string, string>): number | null => {
  const anchor = fields.get('expires_after[anchor]');
  const text = fields.get('expires_after[seconds]');
  if (anchor === undefined && text === undefined) return null;
  if (anchor !== 'created_at')
    refuse('expires_after.anchor', 'expires_after.anchor is not "created_at", the only one there is.');
  const seconds = /^\d{1,9}$/.test(text ?? '') ? Number(text) : 0;
  if (seconds < SECONDS_MIN || seconds > SECONDS_MAX)
    refuse(
      'expires_after.seconds',
      `expires_after.seconds is ${JSON.stringify(text ?? 'missing')}; give ${SECONDS_MIN} to ${SECONDS_MAX}.`,
    );
  return seconds;
};

/** What both kinds of storage refuse, in the same words. */
import type { Digest } from '../../domain/model.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { ARTIFACT_BYTES_MAX, type ArtifactState } from '../ports/artifacts.ts';

export type Piece = { readonly digest: Digest; readonly offsetBytes: number; readonly bytes: number };

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

/** @throws SluiceError `invalid_request`, `payload_too_large` */
export const checkPiece = ({ offsetBytes, bytes }: Piece): void => {
  if (!isCount(bytes))
    throw new SluiceError('invalid_request', `upload-length is ${bytes}; it takes a whole number of bytes.`, {
      field: 'upload-length',
    });
  if (bytes > ARTIFACT_BYTES_MAX)
    throw new SluiceError(
      'payload_too_large',
      `upload-length is ${bytes}; an artifact has at most ${ARTIFACT_BYTES_MAX} bytes: cut the file into several.`,
      { field: 'upload-length' },
    );
  if (!isCount(offsetBytes) || offsetBytes > bytes)
    throw new SluiceError(
      'invalid_request',
      `upload-offset is ${offsetBytes}; it takes a whole number from 0 to the upload-length ${bytes}.`,
      { field: 'upload-offset' },
    );
};

/** Whether a piece drops what was received under another length. @throws SluiceError `artifact_offset_conflict` */
export const startsAnew = (piece: Piece, state: Omit<ArtifactState, 'digest' | 'isComplete'>): boolean => {
  const { receivedBytes, bytes } = state;
  if (piece.offsetBytes === 0 && bytes !== null && bytes !== piece.bytes) return true;
  if (piece.offsetBytes === receivedBytes && (bytes === null || bytes === piece.bytes)) return false;
  throw offsetConflict(piece, receivedBytes, bytes);
};

export const offsetConflict = (piece: Piece, receivedBytes: number, bytes: number | null): SluiceError => {
  const isOtherLength = bytes !== null && bytes !== piece.bytes;
  const detail = isOtherLength
    ? `upload-length is ${piece.bytes}, and the pieces before said ${bytes}; begin again at 0 if that was wrong.`
    : `upload-offset is ${piece.offsetBytes}, and the upload of ${piece.digest} is at ${receivedBytes}.`;
  return new SluiceError('artifact_offset_conflict', detail, {
    field: isOtherLength ? 'upload-length' : 'upload-offset',
    upload_offset: isOtherLength ? 0 : receivedBytes,
    upload_length: bytes,
  });
};

export const tooLong = ({ digest, bytes, offsetBytes }: Piece): SluiceError =>
  new SluiceError(
    'payload_too_large',
    `The body has more than the ${bytes - offsetBytes} bytes that are left of ${digest}; check upload-length.`,
    { field: 'upload-length' },
  );

export const wrongDigest = (digest: Digest, found: Digest, bytes: number): SluiceError =>
  new SluiceError(
    'artifact_digest_mismatch',
    `The ${bytes} bytes that came as ${digest} have the digest ${found}; they were dropped.`,
    { found },
  );

export const notFound = (digest: Digest): SluiceError =>
  new SluiceError('artifact_not_found', `There is no artifact ${digest}, or it is not whole.`);

export const busy = (digest: Digest): SluiceError =>
  new SluiceError(
    'changed_meanwhile',
    `Another upload of ${digest} is under way; ask for its offset again in a moment.`,
    { retry_after_seconds: 2 },
  );

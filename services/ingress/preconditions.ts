/** Conditional requests (RFC 9110, section 13) for bytes that never change: their entity tag is strong, and there are no dates. */
import type { IncomingHttpHeaders } from 'node:http';
import { SluiceError } from '../../shared/errors/sluice-error.ts';

/** A weak tag names the same bytes here, but for If-Match and If-Range, which take strong ones alone. */
const names = (header: string, etag: string, isWeakTaken: boolean): boolean =>
  header.trim() === '*' ||
  header.split(',').some((part) => {
    const tag = part.trim();
    return tag === etag || (isWeakTaken && tag === `W/${etag}`);
  });

/**
 * What the conditions of a request for bytes ask for: all that it names, or nothing, since the asker has the same already.
 * @throws SluiceError `precondition_failed`
 */
export const preconditionOf = (headers: IncomingHttpHeaders, etag: string): 'send' | 'unchanged' => {
  const match = headers['if-match'];
  if (match !== undefined && !names(match, etag, false)) {
    const shown = JSON.stringify(match.slice(0, 128));
    throw new SluiceError('precondition_failed', `If-Match is ${shown}, and the bytes have ${etag}.`, {
      field: 'If-Match',
    });
  }
  const noneMatch = headers['if-none-match'];
  return noneMatch !== undefined && names(noneMatch, etag, true) ? 'unchanged' : 'send';
};

/** Whether the request's Range counts; without If-Range it does. */
export const isRangeMeant = (headers: IncomingHttpHeaders, etag: string): boolean => {
  const ifRange = headers['if-range'];
  return ifRange === undefined || (typeof ifRange === 'string' && ifRange.trim() === etag);
};

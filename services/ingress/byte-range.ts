/** The Range header (RFC 9110, section 14), for one range; what is no range of bytes is ignored, as the RFC asks. */
import { SluiceError } from '../../shared/errors/sluice-error.ts';

/** `to` is exclusive. */
export type ByteRange = { readonly from: number; readonly to: number };

/**
 * @param bytes of the whole
 * @returns null: the whole is wanted
 * @throws SluiceError `range_not_satisfiable`
 */
export const byteRange = (header: string | undefined, bytes: number): ByteRange | null => {
  const match = /^bytes=(\d{0,16})-(\d{0,16})$/.exec(header?.replaceAll(' ', '') ?? '');
  const [, first = '', last = ''] = match ?? [];
  if (match === null || (first === '' && last === '')) return null;
  if (first !== '' && last !== '' && Number(last) < Number(first)) return null;
  const from = first === '' ? Math.max(0, bytes - Number(last)) : Number(first);
  const to = first === '' || last === '' ? bytes : Math.min(bytes, Number(last) + 1);
  if (from < to) return { from, to };
  throw new SluiceError(
    'range_not_satisfiable',
    `range is ${JSON.stringify(header)}, and there are ${bytes} bytes; ask for bytes=FROM-TO of those.`,
    { field: 'range' },
  );
};

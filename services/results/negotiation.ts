/** Which form of a result the Accept header asks for (RFC 9110, section 12.5.1). */
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { ARROW_STREAM } from '../../shared/wire/api.ts';

export type ResultForm = 'json' | 'arrow';

type Range = { readonly type: string; readonly quality: number };

const OFFERS: readonly (readonly [ResultForm, string])[] = [
  ['json', 'application/json'],
  ['arrow', ARROW_STREAM],
];
/** Clients send few different headers; a flood of them costs a parse each, not memory. */
const KNOWN_MAX = 256;
const known = new Map<string, ResultForm | null>();

const rangeOf = (text: string): Range => {
  const [type, ...parameters] = text.split(';');
  const quality = parameters.map((p) => /^\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*$/i.exec(p)?.[1]).find(Boolean);
  return { type: type!.trim().toLowerCase(), quality: quality === undefined ? 1 : Number(quality) };
};

/** The most specific range that names the type decides. */
const qualityOf = (type: string, ranges: readonly Range[]): number => {
  for (const pattern of [type, `${type.split('/')[0]}/*`, '*/*']) {
    const range = ranges.find((candidate) => candidate.type === pattern);
    if (range !== undefined) return range.quality;
  }
  return 0;
};

const negotiate = (header: string): ResultForm | null => {
  const ranges = header.split(',').map(rangeOf);
  let best: ResultForm | null = null;
  let bestQuality = 0;
  for (const [form, type] of OFFERS) {
    const quality = qualityOf(type, ranges);
    if (quality > bestQuality) [best, bestQuality] = [form, quality];
  }
  return best;
};

/** @throws SluiceError `not_acceptable` */
export const resultForm = (accept: string | undefined): ResultForm => {
  if (accept === undefined || accept === '*/*' || accept === 'application/json') return 'json';
  let form = known.get(accept);
  if (form === undefined) {
    form = negotiate(accept);
    if (known.size >= KNOWN_MAX) known.clear();
    known.set(accept, form);
  }
  if (form !== null) return form;
  throw new SluiceError('not_acceptable', `Accept is ${JSON.stringify(accept.slice(0, 128))}.`, {
    field: 'Accept',
  });
};

/** `Prefer: wait=SECONDS` (RFC 7240). Preferences that are not ours are ignored, as the RFC says; a wrong wait is an error. */
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { WAIT_SECONDS_MAX } from '../../shared/wire/schemas.ts';

/** Between commas, but for those in quotes; a quote that nothing ends lasts to the end. */
const PREFERENCE = /(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\\?$))+/g;
const preferencesIn = (text: string): readonly string[] =>
  text.includes('"') ? (text.match(PREFERENCE) ?? []) : text.split(',');

/** Milliseconds to wait; 0 when no wait is asked for. */
export const preferredWaitMs = (header: string | string[] | undefined, waitMaxMs: number): number => {
  if (header === undefined) return 0;
  const text = typeof header === 'string' ? header : header.join(',');
  for (const preference of preferencesIn(text)) {
    const [name, value] = preference.split(';', 1)[0]!.split('=', 2);
    if (name!.trim().toLowerCase() !== 'wait') continue;
    const seconds = /^"?(\d{1,9}(?:\.\d{1,9})?)"?$/.exec(value?.trim() ?? '')?.[1];
    if (seconds === undefined || Number(seconds) > WAIT_SECONDS_MAX) {
      throw new SluiceError(
        'invalid_request',
        `Prefer is ${JSON.stringify(text.slice(0, 80))}; give wait=SECONDS from 0 to ${WAIT_SECONDS_MAX}.`,
        { field: 'Prefer' },
      );
    }
    return Math.min(Number(seconds) * 1000, waitMaxMs);
  }
  return 0;
};

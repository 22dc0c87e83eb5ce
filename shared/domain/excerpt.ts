/** Of the beginning, which says what failed; the end has more: a traceback's last line is the exception. */
const HEAD_SHARE = 0.25;
/** Room for the mark and the number in it. */
const MARK_CHARACTERS = 40;

/** Texts of at most `charactersMax` as they are; of others the beginning and the end, with what was left out between. */
export const excerpt = (text: string, charactersMax: number): string => {
  if (text.length <= charactersMax) return text;
  const kept = Math.max(0, charactersMax - MARK_CHARACTERS);
  const head = Math.floor(kept * HEAD_SHARE);
  const tail = kept - head;
  const end = tail === 0 ? '' : text.slice(-tail);
  // A cut may go through a pair of surrogates.
  return `${text.slice(0, head)}… (${text.length - kept} characters left out) …${end}`.toWellFormed();
};

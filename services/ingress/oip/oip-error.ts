/** Errors in the shape of the Open Inference Protocol, under the catalogue's statuses. */
import type { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { type Problem, problemOf } from '../problem.ts';

/** Without a charset, of which JSON has none: KServe's client shows an error only where the type is this to the letter. */
export const OIP_JSON = 'application/json';

const TEXT_CHARACTERS_MAX = 8192;

/** Cut where it is long; a character of two halves that is cut in two is replaced, since senders of text choke on halves. */
const cut = (text: string, charactersMax: number): string =>
  (text.length > charactersMax ? `${text.slice(0, charactersMax)}…` : text).toWellFormed();

/** What happened, and the code that says what kind of thing it is; clients of the protocol show the text and nothing else. */
export const oipText = ({ message, code }: SluiceError, charactersMax = TEXT_CHARACTERS_MAX): string => {
  const shown = cut(message, charactersMax);
  return shown.endsWith(`(${code})`) ? shown : `${shown} (${code})`;
};

export const oipProblem = (error: SluiceError, status = error.status): Problem => {
  const { headers } = problemOf(error, status);
  return {
    status,
    headers: { ...headers, 'content-type': OIP_JSON },
    body: JSON.stringify({ error: oipText(error) }),
  };
};

/** Paths whose clients expect errors in this shape, routes that are not there among them. */
export const isOipPath = (url: string): boolean => /^\/v2(?:[/?]|$)/.test(url);

/** Errors in the shape of the Open Inference Protocol, under the catalogue's statuses. */
import type { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { type Problem, problemOf } from '../problem.ts';

const TEXT_CHARACTERS_MAX = 8192;

/** What happened, and the code that says what kind of thing it is; clients of the protocol show the text and nothing else. */
export const oipText = ({ message, code }: SluiceError): string => {
  const text = message.endsWith(`(${code})`) ? message : `${message} (${code})`;
  return text.length > TEXT_CHARACTERS_MAX ? `${text.slice(0, TEXT_CHARACTERS_MAX)}…` : text;
};

export const oipProblem = (error: SluiceError): Problem => {
  const { status, headers } = problemOf(error);
  return {
    status,
    headers: { ...headers, 'content-type': 'application/json; charset=utf-8' },
    body: JSON.stringify({ error: oipText(error) }),
  };
};

/** Paths whose clients expect errors in this shape, routes that are not there among them. */
export const isOipPath = (url: string): boolean => /^\/v2(?:[/?]|$)/.test(url);

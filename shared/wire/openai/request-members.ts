/** Members of a request of OpenAI's API: each is known, and is what it says. */
import { SluiceError } from '../../errors/sluice-error.ts';

/** Of a `user`: it is kept with the call. */
const USER_CHARACTERS_MAX = 256;
const MODEL_CHARACTERS_MAX = 256;

export type Members = Readonly<Record<string, unknown>>;

const shownOf = (value: unknown): string => {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
};

/** @throws SluiceError `invalid_request` naming field, value and what is wanted */
export const refuse = (field: string, value: unknown, want: string): never => {
  throw new SluiceError('invalid_request', `${field} is ${shownOf(value)}; give ${want}.`, { field });
};

export const isObject = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @throws SluiceError where it has a member that is not known: most are typing errors */
export const checkKnown = (members: Members, known: ReadonlySet<string>): void => {
  for (const name of Object.keys(members)) {
    if (known.has(name)) continue;
    const field = name.slice(0, 64);
    throw new SluiceError(
      'invalid_request',
      `${field} is no parameter of this route; there are ${[...known].join(', ')}.`,
      { field },
    );
  }
};

export const given = (members: Members, name: string): unknown =>
  Object.hasOwn(members, name) ? (members[name] ?? null) : null;

export const modelOf = (members: Members): string => {
  const model = given(members, 'model');
  if (typeof model === 'string' && model.length > 0 && model.length <= MODEL_CHARACTERS_MAX) return model;
  return refuse('model', members.model, "a function's name, or that of a scaling group");
};

export const userOf = (members: Members): string | null => {
  const user = given(members, 'user');
  if (user === null || (typeof user === 'string' && user.length <= USER_CHARACTERS_MAX)) return user;
  return refuse('user', user, `a string of at most ${USER_CHARACTERS_MAX} characters`);
};

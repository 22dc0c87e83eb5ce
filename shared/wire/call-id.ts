/**
 * Outside call ids: `c`, four characters of the store's generation, the call's number in base 36, two check
 * characters (ISO 7064 MOD 1271-36, which finds every single wrong character and every transposition). So a
 * typing error is no call at all and never another one, and an id of a replaced store says so.
 */
import { createHash } from 'node:crypto';
import { SluiceError } from '../errors/sluice-error.ts';
import type { Lineage } from '../store/ports/transfer.ts';

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';
const MODULUS = 1271;
const TAG_CHARACTERS = 4;
const PATTERN = /^c([0-9a-z]{4})(0|[1-9a-z][0-9a-z]{0,10})([0-9a-z]{2})$/;

const VALUES = new Uint8Array(128);
for (let i = 0; i < ALPHABET.length; i += 1) VALUES[ALPHABET.charCodeAt(i)] = i;

const checkOf = (text: string): string => {
  let sum = 0;
  for (let i = 0; i < text.length; i += 1) sum = ((sum + VALUES[text.charCodeAt(i)]!) * 36) % MODULUS;
  sum = (sum * 36) % MODULUS;
  const check = (MODULUS + 1 - sum) % MODULUS;
  return ALPHABET[Math.floor(check / 36)]! + ALPHABET[check % 36]!;
};

/** How outside call ids name a store. */
export const tagOf = (generation: string): string => {
  const digest = createHash('sha256').update(generation).digest();
  return (digest.readUInt32BE(0) % 36 ** TAG_CHARACTERS).toString(36).padStart(TAG_CHARACTERS, '0');
};

const replaced = (text: string): SluiceError =>
  new SluiceError(
    'call_gone',
    `Call ${text} belongs to another store: this server's data was replaced since it was made.`,
  );

export class CallIds {
  readonly #prefix: string;
  readonly #tag: string;

  constructor(generation: string) {
    this.#tag = tagOf(generation);
    this.#prefix = `c${this.#tag}`;
  }

  encode(id: number): string {
    const text = this.#prefix + id.toString(36);
    return text + checkOf(text);
  }

  /** @throws SluiceError `call_not_found` (not an id) or `call_gone` (an id of another generation of the store) */
  decode(text: string): number {
    const { tag, id } = this.#parse(text);
    if (tag !== this.#tag) throw replaced(text);
    return id;
  }

  /**
   * As `decode`, but an id of a store that calls were moved out of is looked up.
   * @throws SluiceError `call_not_found`, `call_gone`
   */
  async find(text: string, lineage: Lineage): Promise<number> {
    const { tag, id } = this.#parse(text);
    if (tag === this.#tag) return id;
    const found = await lineage.resolve({ tag, id });
    if (found === null) throw replaced(text);
    return found;
  }

  #parse(text: string): { tag: string; id: number } {
    const match = text.length <= 18 ? PATTERN.exec(text) : null;
    const id = match === null ? Number.NaN : Number.parseInt(match[2]!, 36);
    if (match === null || !Number.isSafeInteger(id) || checkOf(text.slice(0, -2)) !== match[3]) {
      throw new SluiceError('call_not_found', `${JSON.stringify(text.slice(0, 64))} is not a call id.`);
    }
    return { tag: match[1]!, id };
  }
}

/**
 * Large payloads and outputs are set beside the script that takes them over: Lua hashes every byte of its arguments
 * (3 to 5 ms of the server for 640 KB), and a plain SET copies none.
 *
 *   SET aside:NAME, with a time to live ─► the script renames it ─► payload:N, bytes:M
 *                                      └── no script took it over: it goes by itself
 */
import { randomBytes } from 'node:crypto';
import type { Layout } from './layout.ts';
import type { Link } from './link.ts';

/** Below this another command costs more than it saves. */
const ASIDE_BYTES_MIN = 16 * 1024;
/** What no script took over goes by itself. */
const ASIDE_MS = 600_000;

/** Names of another life of this process never match. */
const prefix = randomBytes(9).toString('base64url');
let names = 0;

export const isForAside = ({ byteLength }: Uint8Array): boolean => byteLength >= ASIDE_BYTES_MIN;

type Place = { readonly link: Link; readonly layout: Layout };

/**
 * Sets bytes aside and gives their name; a script that is asked in the same tick comes behind them, in the same pipeline.
 * Where the SET is refused, as at maxmemory, the script finds nothing and says so.
 */
export const setAside = ({ link, layout }: Place, fn: number, bytes: Uint8Array): string => {
  names += 1;
  const name = `${prefix}.${names}`;
  link.command('SET', layout.key(fn, 'aside', name), bytes, 'PX', ASIDE_MS).catch(() => undefined);
  return name;
};

/** Of a script that failed: what was set for it need not wait for its end. One that was taken over has another name by now. */
export const dropAsides = ({ link, layout }: Place, fn: number, names: readonly string[]): void => {
  for (const name of names) link.command('UNLINK', layout.key(fn, 'aside', name)).catch(() => undefined);
};

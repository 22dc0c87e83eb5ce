/**
 * Who asks, and may they. With keys every request names one; without keys the server is on loopback only and must know
 * that the request was meant for it: a web page reaches loopback too, by its own name (DNS rebinding) or across origins.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { ApiKey, Keys, Scope } from '../../shared/store/ports/keys.ts';
import { secretHash } from './api-keys.ts';

export type Identity = {
  readonly id: number;
  readonly lane: string;
  readonly isAdmin: boolean;
  readonly scopes: ReadonlySet<Scope>;
};

/** How long a revoked key may still work on a thread that missed the revocation's message. */
const CACHE_MS = 3000;
/** Presented secrets that are remembered, wrong ones included. */
const CACHE_MAX = 10_000;

const ALL: ReadonlySet<Scope> = new Set(['call', 'deploy', 'admin']);
const NOBODY: Identity = { id: 0, lane: '', isAdmin: true, scopes: ALL };

const identityOf = (key: ApiKey): Identity => ({
  id: key.id,
  lane: key.name === '' ? `k${key.id}` : key.name,
  isAdmin: key.scopes.includes('admin'),
  scopes: new Set(key.scopes),
});

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host.endsWith('.localhost') || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);

const hostName = (header: string): string => {
  if (header.startsWith('[')) return header.slice(1, header.indexOf(']'));
  const colon = header.indexOf(':');
  return (colon < 0 ? header : header.slice(0, colon)).toLowerCase();
};

type Cached = { readonly identity: Identity | null; readonly until: number };

export class Guard {
  readonly #keys: Keys;
  readonly #isLocal: boolean;
  readonly #cache = new Map<string, Cached>();
  /** Host headers that were found to be loopback. */
  readonly #hosts = new Set<string>();
  readonly #isShared: boolean;
  #hasKeys = true;
  #lookedAt = 0;

  /**
   * `isLocal`: the server listens on loopback only, and so may do without keys. `isShared`: other processes make keys
   * in the same store, and do not tell.
   */
  constructor(keys: Keys, isLocal: boolean, isShared: boolean) {
    this.#keys = keys;
    this.#isLocal = isLocal;
    this.#isShared = isShared;
  }

  async start(): Promise<void> {
    await this.refresh();
  }

  /** Keys were made or revoked: what was remembered is read again. */
  async refresh(): Promise<void> {
    this.#cache.clear();
    await this.#look();
  }

  async #look(): Promise<void> {
    this.#hasKeys = (await this.#keys.list()).length > 0;
    this.#lookedAt = performance.now();
  }

  /** At once where the answer is known, which it is but once in a few seconds for each key. */
  identify(headers: IncomingHttpHeaders): Identity | Promise<Identity> {
    if (!this.#hasKeys && this.#isLocal) {
      if (this.#isShared && performance.now() > this.#lookedAt + CACHE_MS)
        return this.#look().then(() => this.identify(headers));
      this.#checkLocal(headers);
      return NOBODY;
    }
    const { authorization } = headers;
    const secret = /^Bearer +([\x21-\x7e]{1,256}) *$/i.exec(authorization ?? '')?.[1];
    if (secret === undefined) {
      const detail = authorization === undefined ? 'The request has no Authorization header.' : WRONG_FORM;
      throw new SluiceError('unauthorized', detail);
    }
    const digest = secretHash(secret);
    const cached = this.#cache.get(digest);
    if (cached !== undefined && cached.until > performance.now()) return known(cached.identity);
    return this.#find(digest).then(known);
  }

  async #find(digest: string): Promise<Identity | null> {
    const key = await this.#keys.find(digest);
    const identity = key === undefined ? null : identityOf(key);
    if (this.#cache.size >= CACHE_MAX) this.#cache.clear();
    this.#cache.set(digest, { identity, until: performance.now() + CACHE_MS });
    return identity;
  }

  #checkLocal(headers: IncomingHttpHeaders): void {
    const { host, origin } = headers;
    if (host === undefined || !this.#hosts.has(host)) {
      if (host === undefined || !isLoopback(hostName(host))) {
        throw new SluiceError(
          'forbidden',
          `Host is ${JSON.stringify(host ?? '')}; a server without API keys answers to loopback names only.`,
          { field: 'Host' },
        );
      }
      if (this.#hosts.size < 100) this.#hosts.add(host);
    }
    if (origin !== undefined && origin !== `http://${host}`) {
      throw new SluiceError(
        'forbidden',
        `Origin is ${JSON.stringify(origin.slice(0, 128))}; a server without API keys takes no requests of web pages.`,
        { field: 'Origin' },
      );
    }
  }
}

const WRONG_FORM = 'The Authorization header is not "Bearer KEY".';

const known = (identity: Identity | null): Identity => {
  if (identity === null) throw new SluiceError('unauthorized', 'The API key is unknown or revoked.');
  return identity;
};

/** @throws SluiceError `forbidden` naming the scope */
export const checkScope = (identity: Identity, scope: Scope): void => {
  if (identity.isAdmin || identity.scopes.has(scope)) return;
  throw new SluiceError('forbidden', `The API key has no scope "${scope}".`, { scope });
};

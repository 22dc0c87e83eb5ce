/**
 * Where Redis is, as one URL. The forms are those that other clients use (redis-py, Celery, Lettuce, Spring):
 *
 *   redis://[user:password@]host[:6379][/database]              rediss:// the same over TLS
 *   redis+sentinel://[user:password@]host[:26379],…/master-name[/database]
 *   redis+cluster://[user:password@]host[:6379],…
 *
 * `redis-sentinel` and `redis-cluster` mean the same; `rediss+sentinel` and `rediss+cluster` speak TLS. Questions after
 * `?`: `ca=FILE` (certificates to trust instead of the system's), `cert=FILE` and `key=FILE` (ours), `servername=NAME`,
 * `sentinel-user` and `sentinel-password` (where the sentinels ask for their own).
 */
import { withoutSecrets } from '../../config/redaction.ts';
import { SluiceError } from '../../errors/sluice-error.ts';

export type RedisHost = { readonly host: string; readonly port: number };

export type RedisAddress = {
  readonly kind: 'standalone' | 'sentinel' | 'cluster';
  readonly hosts: readonly RedisHost[];
  readonly isTls: boolean;
  readonly username: string | null;
  readonly password: string | null;
  /** Always 0 in a cluster. */
  readonly database: number;
  /** The name under which the sentinels watch the master; '' elsewhere. */
  readonly masterName: string;
  readonly tlsFiles: {
    readonly ca: string | null;
    readonly cert: string | null;
    readonly key: string | null;
  };
  readonly serverName: string | null;
  readonly sentinelUsername: string | null;
  readonly sentinelPassword: string | null;
};

/** For the text of the setting that takes the URL. */
export const ADDRESS_FORMS =
  'redis://[user:password@]host:port[/database], rediss:// for TLS, redis+sentinel://host:port,host:port/master-name, redis+cluster://host:port,host:port';

const SHAPE =
  /^(redis|rediss)(?:[+-](sentinel|cluster))?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/;
const QUESTIONS = ['ca', 'cert', 'key', 'servername', 'sentinel-user', 'sentinel-password'];

const wrong = (url: string, why: string): SluiceError =>
  new SluiceError(
    'invalid_request',
    `The store's address "${withoutSecrets(url)}" ${why}; give ${ADDRESS_FORMS}.`,
  );

const decode = (url: string, text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong(url, 'holds a % that escapes nothing');
  }
};

const hostOf = (url: string, text: string, port: number): RedisHost => {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+)(?::(\d{1,5}))?$/.exec(text);
  const number = match?.[2] === undefined ? port : Number(match[2]);
  if (match === null || number < 1 || number > 65_535) throw wrong(url, `names no host in "${text}"`);
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port: number };
};

const databaseOf = (url: string, text: string | undefined): number => {
  if (text === undefined || text === '') return 0;
  if (!/^\d{1,5}$/.test(text)) throw wrong(url, `names the database "${text}", which is no number`);
  return Number(text);
};

const userOf = (
  url: string,
  text: string | undefined,
): { username: string | null; password: string | null } => {
  if (text === undefined || text === '') return { username: null, password: null };
  const colon = text.indexOf(':');
  const username = decode(url, colon < 0 ? text : text.slice(0, colon));
  const password = colon < 0 ? null : decode(url, text.slice(colon + 1));
  return { username: username === '' ? null : username, password };
};

/** @throws SluiceError `invalid_request` that says what is wrong, without passwords */
export const parseAddress = (url: string): RedisAddress => {
  const match = SHAPE.exec(url.trim());
  if (match === null) throw wrong(url, 'is no Redis URL');
  const [, scheme, kindText, user, hostText = '', path = '', query = ''] = match;
  const kind = (kindText ?? 'standalone') as RedisAddress['kind'];
  const names = hostText.split(',').filter((name) => name !== '');
  const hosts = names.map((name) => hostOf(url, name, kind === 'sentinel' ? 26_379 : 6379));
  if (hosts.length === 0) hosts.push({ host: '127.0.0.1', port: kind === 'sentinel' ? 26_379 : 6379 });
  if (kind === 'standalone' && hosts.length > 1)
    throw wrong(url, 'names several hosts, but neither +sentinel nor +cluster');
  const steps = path.split('/').filter((step) => step !== '');
  const masterName = kind === 'sentinel' ? decode(url, steps.shift() ?? '') : '';
  if (kind === 'sentinel' && masterName === '') throw wrong(url, 'lacks the name of the master');
  if (steps.length > 1 || (kind === 'cluster' && steps.length > 0)) throw wrong(url, 'has too long a path');
  const asked = new URLSearchParams(query);
  for (const name of asked.keys()) if (!QUESTIONS.includes(name)) throw wrong(url, `asks for "${name}"`);
  return {
    kind,
    hosts,
    isTls: scheme === 'rediss',
    ...userOf(url, user),
    database: databaseOf(url, steps[0]),
    masterName,
    tlsFiles: { ca: asked.get('ca'), cert: asked.get('cert'), key: asked.get('key') },
    serverName: asked.get('servername'),
    sentinelUsername: asked.get('sentinel-user'),
    sentinelPassword: asked.get('sentinel-password'),
  };
};

/** Settings of processes and roles: what goes together, and what is never printed. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { withoutSecrets } from '../../../shared/config/redaction.ts';
import {
  compileSettings,
  flagOf,
  SETTINGS,
  type SettingName,
  settingsRoles,
  shownSetting,
} from '../../../shared/config/settings.ts';
import { artifactsOptionsOf, artifactsWarning } from '../../../shared/store/artifacts/index.ts';

const REDIS = 'redis://127.0.0.1:6379';

describe('roles', () => {
  it('are all by default, some on a shared store, and combine', () => {
    expect([...settingsRoles(compileSettings({}))]).toEqual(['ingress', 'buffer', 'worker']);
    const two = compileSettings({ store: REDIS, role: 'worker, ingress' });
    expect(two.role).toBe('ingress,worker');
    expect([...settingsRoles(two)]).toEqual(['ingress', 'worker']);
    expect(compileSettings({ role: 'worker,buffer,ingress' }).role).toBe('all');
  });

  it.each([
    [{ role: 'worker' }, /one process does everything on the embedded store; give --store redis/],
    [{ role: 'workers', store: REDIS }, /--role \(SLUICE_ROLE\) is "workers"; give all, or some of/],
    [{ role: 'all,worker', store: REDIS }, /give all, or some of/],
    [{ role: '', store: REDIS }, /give all, or some of/],
    [
      { role: 'buffer', store: REDIS, port: '7700' },
      /role buffer has no API to listen for; give --health-port/,
    ],
    [{ port: '7700', healthPort: '7700' }, /--health-port .* may not be the --port of the API/],
    [{ port: '7700', grpcPort: '7700' }, /--grpc-port .* may not be the --port of the API/],
    [{ grpcPort: '7701', healthPort: '7701' }, /--health-port .* may not be the --grpc-port/],
    [{ role: 'worker', store: 'redis://127.0.0.1:6379', grpcPort: '0' }, /--grpc-port .* no API/],
    [{ redisPrefix: 'mine' }, /the embedded store has nothing in Redis/],
    [{ redisPrefix: 'mi{ne}', store: REDIS }, /at most 32 letters, digits/],
    [{ redisPrefix: 'm'.repeat(33), store: REDIS }, /at most 32 letters, digits/],
    [{ redisPrefix: 'mine:12', store: REDIS }, /may not end in a colon and digits/],
    [{ s3Bucket: 'payloads' }, /the embedded store has nothing in Redis/],
    [{ s3Threshold: '1MiB', store: REDIS }, /there is no bucket; give --s3-bucket as well/],
    [{ s3Bucket: 's3://payloads', store: REDIS }, /give the name of a bucket alone/],
    [{ s3Bucket: 'payloads', s3Threshold: '1', store: REDIS }, /a whole number from 1024/],
    [{ s3Bucket: 'payloads', s3Prefix: 'a b', store: REDIS }, /at most 200 letters/],
    [
      { s3Bucket: 'payloads', s3Endpoint: 'http://me:s3cret@minio:9000', store: REDIS },
      /"http:\/\/me:\*\*\*@minio:9000"; give http\(s\):\/\/HOST:PORT; credentials come from AWS_/,
    ],
    [{ artifactsCache: '/cache' }, /artifacts lie in a directory here and are not fetched; give --s3-bucket/],
    [
      { artifactsCacheLimit: '1GiB', artifacts: '/a', s3Bucket: 'payloads', store: REDIS },
      /and no --artifacts/,
    ],
    [{ store: '127.0.0.1:6379' }, /give embedded, or an address such as redis:/],
  ])('%j are refused', (raw, message) => {
    expect(() => compileSettings(raw)).toThrow(message);
  });
});

describe('artifacts', () => {
  const homeOf = (raw: Record<string, string>) => {
    const settings = compileSettings(raw);
    const options = artifactsOptionsOf(settings);
    const where = options.kind === 'directory' ? options.directory : options.bucket.name;
    return [options.kind, where, artifactsWarning(settings)];
  };

  it('lie beside the data, in the bucket, or where they are told to, which a shared store should be', () => {
    expect(homeOf({ data: '/data' })).toEqual(['directory', '/data/artifacts', null]);
    expect(homeOf({ artifacts: '/a' })).toEqual(['directory', '/a', null]);
    const bucket = { store: REDIS, s3Bucket: 'payloads' };
    expect(homeOf(bucket)).toEqual(['bucket', 'payloads', null]);
    expect(homeOf({ ...bucket, artifacts: '/a' })).toEqual(['directory', '/a', null]);
    expect(homeOf({ store: REDIS })).toEqual([
      'directory',
      expect.stringMatching(/\.local\/share\/sluice\/artifacts$/),
      expect.stringMatching(/which all processes of this store must share; give --artifacts/),
    ]);
  });

  it('of a bucket are fetched to a directory of this user', () => {
    const bucket = { store: REDIS, s3Bucket: 'payloads' };
    const cache = (raw: object) => artifactsOptionsOf(compileSettings({ ...bucket, ...raw }));
    expect(cache({})).toMatchObject({
      cacheDirectory: expect.stringMatching(/\.cache\/sluice\/artifacts$/),
      cacheBytesMax: 200 * 2 ** 30,
    });
    const given = { artifactsCache: '/cache', artifactsCacheLimit: '5GiB' };
    expect(cache(given)).toMatchObject({ cacheDirectory: '/cache', cacheBytesMax: 5 * 2 ** 30 });
  });
});

describe('the address of a store', () => {
  it.each([
    ['embedded', 'embedded'],
    [REDIS, REDIS],
    ['rediss://ops:s3cret@h:6380/2', 'rediss://ops:***@h:6380/2'],
    ['redis://:s3cret@h', 'redis://:***@h'],
    ['redis://s3cret@h', 'redis://***@h'],
    ['redis+sentinel://u:s3cr@et/s3cret@a:1,b:2/main', 'redis+sentinel://u:***@a:1,b:2/main'],
    [
      'redis+sentinel://a:1/m?sentinel-password=s3cret&ca=x',
      'redis+sentinel://a:1/m?sentinel-password=***&ca=x',
    ],
  ])('%s is shown without its password', (address, shown) => {
    expect(withoutSecrets(address)).toBe(shown);
    expect(shownSetting('store', address)).toBe(shown);
  });

  it('is not in the message that refuses it', () => {
    expect(() => compileSettings({ store: 'amqp://u:s3cret@h' })).toThrow(/"amqp:\/\/u:\*\*\*@h"/);
  });
});

describe('the longest timers', () => {
  it.each(['lease', 'grace'] as const)('of --%s are those of a day', (name) => {
    expect(compileSettings({ [name]: '24h' })[name]).toBe(86_400_000);
    // Twice the grace is still a timer; a longer one than 24.8 days would fire at once.
    for (const value of ['25h', '86400001ms', '30d'])
      expect(() => compileSettings({ [name]: value })).toThrow(`is "${value}"; give a whole number from`);
  });
});

it('are all named where people read of them', () => {
  const root = path.resolve(import.meta.dirname, '../../..');
  const pages = readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md'));
  const text = ['README.md', 'deploy/kubernetes/README.md', ...pages.map((name) => `docs/${name}`)]
    .map((name) => readFileSync(path.join(root, name), 'utf8'))
    .join('\n');
  const flags = (Object.keys(SETTINGS) as SettingName[]).map(flagOf);
  expect(flags.filter((flag) => !new RegExp(`${flag}(?![-\\w])`).test(text))).toEqual([]);
});

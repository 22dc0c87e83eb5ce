import { describe, expect, it } from 'vitest';
import { parseAddress } from '../../../shared/store/redis/address.ts';

describe('an address', () => {
  it('is one server, with or without TLS, user and database', () => {
    expect(parseAddress('redis://')).toMatchObject({
      kind: 'standalone',
      hosts: [{ host: '127.0.0.1', port: 6379 }],
      isTls: false,
      username: null,
      password: null,
      database: 0,
    });
    expect(parseAddress('rediss://ann:p%40ss@[::1]:7/3?ca=/etc/ca.pem&servername=r')).toMatchObject({
      kind: 'standalone',
      hosts: [{ host: '::1', port: 7 }],
      isTls: true,
      username: 'ann',
      password: 'p@ss',
      database: 3,
      tlsFiles: { ca: '/etc/ca.pem', cert: null, key: null },
      serverName: 'r',
    });
    expect(parseAddress('redis://:secret@r')).toMatchObject({ username: null, password: 'secret' });
  });

  it('is a master that sentinels watch', () => {
    const address = parseAddress('redis+sentinel://a:b@s1,s2:5,s3/main/2?sentinel-password=x');
    expect(address).toMatchObject({
      kind: 'sentinel',
      hosts: [
        { host: 's1', port: 26_379 },
        { host: 's2', port: 5 },
        { host: 's3', port: 26_379 },
      ],
      masterName: 'main',
      database: 2,
      password: 'b',
      sentinelPassword: 'x',
    });
    expect(parseAddress('rediss-sentinel://s/m')).toMatchObject({ kind: 'sentinel', isTls: true });
  });

  it('is a cluster by some of its nodes', () => {
    expect(parseAddress('redis+cluster://a,b:7001')).toMatchObject({
      kind: 'cluster',
      hosts: [
        { host: 'a', port: 6379 },
        { host: 'b', port: 7001 },
      ],
      database: 0,
    });
  });

  it.each([
    ['http://r', 'is no Redis URL'],
    ['redis://a,b', 'names several hosts'],
    ['redis://r:99999', 'names no host in "r:99999"'],
    ['redis://r/x', 'names the database "x"'],
    ['redis+sentinel://s', 'lacks the name of the master'],
    ['redis+cluster://s/1', 'has too long a path'],
    ['redis://r?tls=no', 'asks for "tls"'],
    ['redis://u:%zz@r', 'holds a % that escapes nothing'],
  ])('that is wrong says why: %s', (url, why) => {
    expect(() => parseAddress(url)).toThrow(why);
    expect(() => parseAddress(url)).toThrow(/give redis:\/\//);
  });

  it('is shown without its secrets', () => {
    expect(() => parseAddress('redis://ann:hush@a,b')).toThrow(/^(?!.*hush)/);
  });
});

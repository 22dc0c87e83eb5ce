import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { parseAddress } from '../../../shared/store/redis/address.ts';
import { connectCommands } from '../../../shared/store/redis/connecting.ts';
import { Layout } from '../../../shared/store/redis/layout.ts';
import { Link, type LinkOptions } from '../../../shared/store/redis/link.ts';
import {
  describeWithRedis,
  hasWaitaof,
  RedisCluster,
  RedisSentinels,
  RedisServer,
} from '../../support/redis-servers.ts';
import { eventually } from '../../support/sluice-process.ts';
import { makeShop, newPrefix } from './homes.ts';

const linkTo = (url: string, changes: Partial<LinkOptions> = {}): Link =>
  new Link({ address: parseAddress(url), url, name: 'test', waitMs: 20_000, ...changes });

/** Asks again until the store answers; every refusal must say that it may. */
const insist = async <T>(ask: () => Promise<T>): Promise<T> => {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      expect(error).toMatchObject({ code: 'store_unavailable', retryable: true });
    }
  }
};

const heardBy = async (link: Link, channel: string): Promise<string[]> => {
  const heard: string[] = [];
  await link.subscriber.add(channel, (message) => heard.push(message));
  return heard;
};

describeWithRedis('a link to one server', () => {
  let server: RedisServer;
  let link: Link;
  beforeAll(async () => {
    server = await RedisServer.start();
    link = linkTo(server.url);
  });
  afterAll(async () => {
    await link.close();
    await server.stop();
  });

  it('passes bytes both ways, in the order of the asking', async () => {
    const bytes = Uint8Array.from([255, 0, 10, 128]);
    const echo = 'return {ARGV[1], #ARGV[1], false, {KEYS[1]}}';
    expect(await link.runText(echo, ['{a}k'], [bytes])).toEqual([
      Buffer.from(bytes),
      4,
      null,
      [Buffer.from('{a}k')],
    ]);
    const order = await Promise.all(
      Array.from({ length: 1500 }, () => link.runText("return redis.call('INCR', KEYS[1])", ['{a}n'], [])),
    );
    expect(order).toEqual(Array.from({ length: 1500 }, (_, index) => index + 1));
  });

  it('passes large bytes both ways, in the order of the asking', async () => {
    const bytes = Buffer.alloc(3_000_001, '$70000\r\n');
    const asked = [
      link.command('SET', '{a}large', bytes),
      link.runText("return {KEYS[1], redis.call('GET', KEYS[1]), 5}", ['{a}large'], []),
      link.command('STRLEN', '{a}large'),
      link.runText('return {ARGV[2], #ARGV[1], ARGV[3]}', ['{a}large'], [bytes, 'ü', Buffer.from([255])]),
      link.command('GET', '{a}none'),
    ];
    const [ok, nested, length, script, none] = await Promise.all(asked);
    expect([ok, length, none]).toEqual([Buffer.from('OK'), bytes.length, null]);
    expect(script).toEqual([Buffer.from('ü'), bytes.length, Buffer.from([255])]);
    const [key, back, five] = nested as [Buffer, Buffer, number];
    expect([String(key), five, bytes.equals(back)]).toEqual(['{a}large', 5, true]);
  });

  it('tells what a server refuses of large bytes, and no more', async () => {
    const bytes = Buffer.alloc(100_000);
    const [refused, kept] = await Promise.allSettled([
      link.command('LPUSH', '{a}large', bytes),
      link.command('EXISTS', '{a}large'),
    ]);
    expect(refused).toMatchObject({
      status: 'rejected',
      reason: { message: expect.stringMatching(/WRONGTYPE/) },
    });
    expect(kept).toEqual({ status: 'fulfilled', value: 1 });
  });

  it('runs a script that the server has forgotten', async () => {
    await link.runText('return 5', ['{a}k'], []);
    await link.command('SCRIPT', 'FLUSH');
    expect(await link.runText('return 5', ['{a}k'], [])).toBe(5);
  });

  it('turns what scripts refuse into errors of the catalogue', async () => {
    const refuse = (text: string) => link.runText(`return redis.error_reply('${text}')`, ['{a}k'], []);
    await expect(
      refuse('SLUICE queue_full it holds; enough; {"retry_after_seconds":7}'),
    ).rejects.toMatchObject({
      code: 'queue_full',
      message: 'it holds; enough',
      extra: { retry_after_seconds: 7 },
    });
    await expect(refuse('SLUICE no_such_code x')).rejects.toThrow(/bug/);
    await expect(link.runText('return nil .. 1', ['{a}k'], [])).rejects.toThrow(/bug.*concatenate/);
  });

  it('asks what a lost generation comes from', async () => {
    const moved = new SluiceError('store_unavailable', 'It moved.');
    const lost: string[] = [];
    const onLost = async ({ code }: SluiceError) => {
      lost.push(code);
      return moved;
    };
    const other = linkTo(server.url, { onLost });
    const ask = other.runText("return redis.error_reply('SLUICE data_lost of f')", ['{a}k'], []);
    await expect(ask).rejects.toBe(moved);
    expect(lost).toEqual(['data_lost']);
    await other.close();
  });

  it('has heard all that was published once it caught up', async () => {
    const heard = await heardBy(link, 'c');
    for (let n = 0; n < 50; n += 1) await link.command('PUBLISH', 'c', n);
    await link.catchUp();
    expect(heard).toEqual(Array.from({ length: 50 }, (_, n) => String(n)));
  });

  it('answers what was asked before it was closed, and nothing after', async () => {
    const other = linkTo(server.url);
    const asked = other.command('ECHO', 'x');
    await other.close();
    await other.close();
    expect(String(await asked)).toBe('x');
    await expect(other.command('PING')).rejects.toMatchObject({ code: 'shutting_down' });
  });
});

describeWithRedis('a link that breaks', () => {
  it('refuses after its wait where nothing listens', async () => {
    const server = await RedisServer.start();
    await server.stop();
    const link = linkTo(server.url, { waitMs: 50 });
    await expect(link.command('GET', 'k')).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringMatching(/no connection to redis:\/\/127.*within 50 ms \(.*ECONNREFUSED/),
    });
    await link.close();
  });

  it('fails what was under way, comes back by itself with its data, and says that messages may be missing', async () => {
    await using server = await RedisServer.start();
    const link = linkTo(server.url);
    await link.command('SET', 'k', 'kept');
    const heard = await heardBy(link, 'c');
    const gap = new Promise<void>((resolve) => link.subscriber.onGap(resolve));
    server.signal('SIGSTOP');
    const underWay = link.command('INCR', 'n');
    underWay.catch(() => undefined);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    await server.kill();
    await expect(underWay).rejects.toMatchObject({ code: 'store_unavailable' });
    await server.restart();
    expect(String(await insist(() => link.command('GET', 'k')))).toBe('kept');
    await gap;
    await link.command('PUBLISH', 'c', 'again');
    await link.catchUp();
    expect(heard).toEqual(['again']);
    await link.close();
  });

  it('cuts a connection on which no reply comes', async () => {
    await using server = await RedisServer.start();
    const link = linkTo(server.url, { replyMs: 100 });
    await link.command('SET', 'k', 'v');
    server.signal('SIGSTOP');
    await expect(link.command('GET', 'k')).rejects.toMatchObject({ code: 'store_unavailable' });
    server.signal('SIGCONT');
    expect(String(await insist(() => link.command('GET', 'k')))).toBe('v');
    await link.close();
  });

  it('speaks with a user and a password', async () => {
    await using server = await RedisServer.start({
      config: { user: 'ann on >s@cret ~* &* +@all' },
      credentials: 'ann:s%40cret',
    });
    const link = linkTo(server.url);
    expect(String(await link.command('ACL', 'WHOAMI'))).toBe('ann');
    await link.close();
  });
});

describeWithRedis('over TLS', () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'sluice-tls-'));
  const [cert, key] = [path.join(folder, 'cert.pem'), path.join(folder, 'key.pem')];
  let server: RedisServer;
  beforeAll(async () => {
    const subject = ['-subj', '/CN=redis', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    execFileSync('openssl', [...made, '-days', '2', '-keyout', key, '-out', cert, ...subject], {
      stdio: 'ignore',
    });
    const tls = { 'tls-cert-file': cert, 'tls-key-file': key, 'tls-ca-cert-file': cert };
    server = await RedisServer.start({ scheme: 'rediss', config: { ...tls, 'tls-auth-clients': 'no' } });
  });
  afterAll(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  it('a link trusts the certificates that the URL names, and no others', async () => {
    const link = linkTo(`${server.url}?ca=${cert}`);
    const heard = await heardBy(link, 'c');
    await link.command('PUBLISH', 'c', 'sealed');
    await link.catchUp();
    expect(heard).toEqual(['sealed']);
    await link.close();
    const stranger = linkTo(server.url, { waitMs: 300 });
    await expect(stranger.command('PING')).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringMatching(/self-signed/),
    });
    await stranger.close();
  });

  it('a batch is dispatched by BullMQ, run and settled', async () => {
    const [url, prefix] = [`${server.url}?ca=${cert}`, newPrefix()];
    await using shop = await makeShop(url, prefix);
    const link = linkTo(url);
    const id = await shop.admit(1);
    const batch = await shop.run([id, 0, 1]);
    const bull = new Layout(prefix).bull(shop.versionId);
    expect(await link.command('EXISTS', `${bull.prefix}:${bull.name}:b-${batch.batchId}-1:lock`)).toBe(1);
    await shop.settleOk(batch);
    expect(await shop.call(id)).toMatchObject({ status: 'completed' });
    await link.close();
  });
});

describeWithRedis('a link to a cluster', () => {
  // Redis below 7.2 knows no WAITAOF; under another's name it counts who was asked.
  const config: Record<string, string> = hasWaitaof ? {} : { 'rename-command': 'WAIT WAITAOF' };
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start({ config });
  });
  afterAll(() => cluster.stop());

  it('runs scripts in every slot and hears every node', async () => {
    const link = linkTo(cluster.url);
    const heard = await heardBy(link, 'c');
    expect(await link.listeners('c')).toBe(1);
    const keys = Array.from({ length: 60 }, (_, n) => `{f:${n}}:k`);
    const replies = await Promise.all(
      keys.map((key) => link.runText("redis.call('SET', KEYS[1], 'x'); return KEYS[1]", [key], [])),
    );
    expect(replies.map(String)).toEqual(keys);
    expect(await link.everywhere('PING')).toEqual(['PONG', 'PONG', 'PONG']);
    const all = new Promise<void>((resolve) => {
      void link.subscriber.add('c', () => heard.length === 60 && resolve());
    });
    const publish = "redis.call('PUBLISH', 'c', KEYS[1]); return 1";
    await Promise.all(keys.map((key) => link.runText(publish, [key], [])));
    await all;
    expect(heard.toSorted()).toEqual(keys.toSorted());
    await link.close();
  });

  it('asks the node that admits for the state of the disks', async () => {
    const link = linkTo(cluster.url, { waitReplicas: 0 });
    for (let round = 0; round < 8; round += 1)
      await link.run('admit', ['{a}generation'], [Buffer.alloc(100_000)]).catch(() => undefined);
    const statistics = await Promise.all(
      cluster.nodes.map((node) => node.ask((redis) => redis.info('commandstats'))),
    );
    expect(statistics.filter((text) => /cmdstat_wait(aof)?:/.test(text))).toHaveLength(1);
    await link.close();
  });

  it('goes on after a node was killed and started again', async () => {
    const link = linkTo(cluster.url, { replyMs: 2000 });
    const keys = Array.from({ length: 12 }, (_, n) => `{f:${n}}:k`);
    await Promise.all(keys.map((key) => link.command('SET', key, key)));
    await cluster.nodes[1]!.kill();
    await Promise.allSettled(keys.map((key) => link.command('GET', key)));
    await cluster.nodes[1]!.restart();
    for (const key of keys) expect(String(await insist(() => link.command('GET', key)))).toBe(key);
    await link.close();
  });
});

describeWithRedis('a link through sentinels', () => {
  it('looks for the master again when its look was broken off by news of another one', async () => {
    await using sentinels = await RedisSentinels.start();
    let isWanted = true;
    const connection = connectCommands(parseAddress(sentinels.url), 'test', 5000, () => isWanted);
    connection.on('error', () => undefined);
    const told = (event: string): Promise<void> =>
      new Promise((resolve) => {
        connection.once(event, () => resolve());
      });
    // As ioredis does itself on `+switch-master`.
    (connection as unknown as { connector: { disconnect(): void } }).connector.disconnect();
    await told('end');
    await told('ready');
    isWanted = false;
    connection.disconnect();
    await told('end');
    expect(connection.status).toBe('end');
  });

  it('finds the master, and its successor', async () => {
    await using sentinels = await RedisSentinels.start();
    const link = linkTo(sentinels.url);
    await link.command('SET', 'k', 'v');
    const heard = await heardBy(link, 'c');
    await link.command('WAIT', '1', '5000');
    await sentinels.master.kill();
    await sentinels.promoted();
    expect(String(await insist(() => link.command('SET', 'k', 'w')))).toBe('OK');
    await eventually('messages come through the new master', async () => {
      await link.command('PUBLISH', 'c', 'x');
      await link.catchUp();
      return heard.length > 0;
    });
    await link.close();
  });
});

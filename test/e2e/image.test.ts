/** The image that deploy/Dockerfile describes, really built and started; skipped, with the reason, where that cannot be. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { buildImage, Container, podman, whyNoImages } from '../support/container.ts';
import { makeBaseImage } from '../support/container-base.ts';
import { freePort } from '../support/free-port.ts';
import { hasRedis, RedisServer } from '../support/redis-servers.ts';
import { sluice } from '../support/sluice-process.ts';

const BASE = 'localhost/sluice-test-base';
const IMAGE = 'localhost/sluice-test';
const GRACE_SECONDS = 20;
const VOLUME = `sluice-test-${process.pid}`;
/** Node and Python are some 220 MB of it on a public base. */
const IMAGE_BYTES_MAX = 600e6;

const reason = await whyNoImages();
if (reason !== null) process.stderr.write(`The image is not built and its test is skipped: ${reason}.\n`);

type Started = { readonly container: Container; readonly url: string; readonly healthUrl: string };

/** As the compose file runs it: read-only, without capabilities, with a place for data and one for temporary files. */
const LOCKED_IN = [
  ...['--read-only', '--tmpfs', '/tmp:exec', '--volume', `${VOLUME}:/data`],
  ...['--cap-drop', 'all', '--security-opt', 'no-new-privileges', '--health-interval', 'disable'],
];

const start = async (name: string, environment: readonly string[] = []): Promise<Started> => {
  const healthPort = await freePort();
  const settings = [
    ...['SLUICE_HOST=127.0.0.1', 'SLUICE_PORT=0', `SLUICE_HEALTH_PORT=${healthPort}`],
    ...[`SLUICE_GRACE=${GRACE_SECONDS}s`, ...environment],
  ].flatMap((setting) => ['--env', setting]);
  const container = new Container(`${VOLUME}-${name}`, IMAGE, [...LOCKED_IN, ...settings]);
  const url = await container.printed(/(http:\/\/127\.0\.0\.1:\d+)/);
  return { container, url, healthUrl: `http://127.0.0.1:${healthPort}` };
};

describe.skipIf(reason !== null)('the image', () => {
  const containers: Container[] = [];

  beforeAll(async () => {
    await makeBaseImage(BASE);
    await buildImage(IMAGE, 'deploy/Dockerfile', BASE);
  }, 180_000);

  afterAll(async () => {
    for (const container of containers) await container.remove();
    await podman('volume', 'rm', '--force', VOLUME);
    await podman('rmi', '--force', IMAGE, BASE);
  });

  it('is small, and says what it is and who runs it', async () => {
    const [image] = JSON.parse(await podman('image', 'inspect', IMAGE)) as [
      { Size: number; Config: { User: string } },
    ];
    expect(image.Size).toBeLessThan(IMAGE_BYTES_MAX);
    expect(image.Config.User).toBe('10001:10001');
  });

  it('runs functions without root and without writing to its root, and stops within its grace', async () => {
    const { container, url, healthUrl } = await start('one');
    containers.push(container);
    expect(await container.exec('sh', '-c', 'cat /proc/1/status')).toMatch(/^Uid:\s+10001\s+10001/m);
    await expect(container.exec('sh', '-c', 'echo x >/app/x')).rejects.toThrow(/Read-only/);
    for (const path of ['/livez', '/readyz', '/metrics'])
      expect((await fetch(healthUrl + path)).status).toBe(200);
    await podman('healthcheck', 'run', container.name);

    const deployed = await sluice(['deploy', 'examples/quickstart/shout.py'], { SLUICE_URL: url });
    expect(deployed).toMatchObject({ code: 0 });
    const shout = new Sluice({ url }).function<{ text: string }, string>('shout');
    const handle = await shout.deferBatch([{ text: 'one' }, { text: 'two' }]);
    expect(await handle.get({ timeoutMs: 60_000 })).toEqual(['ONE', 'TWO']);

    expect(await container.stop(GRACE_SECONDS + 5)).toBe(0);
    const again = await start('two');
    containers.push(again.container);
    const kept = new Sluice({ url: again.url }).call<string>(handle.callId);
    expect(await kept.get({ timeoutMs: 60_000 })).toEqual(['ONE', 'TWO']);
    expect(await again.container.stop(GRACE_SECONDS + 5)).toBe(0);
  });

  it.skipIf(!hasRedis)('makes the first key of a store in Redis, and serves it', async () => {
    const redis = await RedisServer.start();
    const store = ['--env', `SLUICE_STORE=${redis.url}`];
    const firstKey = (name: string): Container => {
      const options = [...LOCKED_IN, ...store, '--entrypoint', '/app/first-key.sh'];
      const container = new Container(`${VOLUME}-${name}`, IMAGE, options, ['operator']);
      containers.push(container);
      return container;
    };
    const secret = await firstKey('key').printed(/^(sk\S+|\S{30,})$/);
    await firstKey('again').printed(/has API keys already/);
    const { container, url } = await start('shared', [`SLUICE_STORE=${redis.url}`]);
    containers.push(container);
    const env = { SLUICE_URL: url, SLUICE_API_KEY: secret };
    expect(await sluice(['deploy', 'examples/quickstart/shout.py'], env)).toMatchObject({ code: 0 });
    expect((await sluice(['call', 'shout', 'text=one'], env)).stdout).toContain('ONE');
    expect(await container.stop(GRACE_SECONDS + 5)).toBe(0);
    await redis.stop();
  });
});

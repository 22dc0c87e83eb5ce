/**
 * deploy/compose.yaml as a whole, with the docs' commands: two doors, two buffers, workers, Redis, Prometheus and Grafana.
 * Skipped, with the reason, where no Docker daemon runs; then test/unit/deploy holds the file to what can be read in it.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { ComposeProject, whyNoCompose } from '../support/compose.ts';
import { eventually, ROOT, sluice } from '../support/sluice-process.ts';

const ROLES = ['buffer-1', 'buffer-2', 'worker', 'ingress-1', 'ingress-2'];
const DASHBOARD = path.join(ROOT, 'deploy/grafana/dashboards/sluice.json');

const reason = await whyNoCompose();
if (reason !== null)
  process.stderr.write(`The compose file is not run and its test is skipped: ${reason}.\n`);

describe.skipIf(reason !== null)('the compose file', () => {
  let project: ComposeProject;
  let apiKey = '';
  let callId = '';

  const up = async (...args: string[]): Promise<void> => {
    await project.run('up', '--detach', ...args);
    for (const role of ROLES) await eventually(`${role} is healthy`, () => project.isHealthy(role));
  };
  const client = (name: string): Sluice => new Sluice({ url: project.url(name), apiKey });

  // Building the image, and pulling four, takes most of it.
  beforeAll(async () => {
    project = await ComposeProject.of({
      'ingress-1': 7700,
      'ingress-2': 7700,
      prometheus: 9090,
      grafana: 3000,
    });
    await up('--build');
  }, 600_000);

  afterAll(() => project.remove(), 60_000);

  it('prints the first key, with which one door deploys and the other calls', async () => {
    apiKey = /sk_[\w-]{20,}/.exec(await project.logs('first-key'))![0];
    const env = { SLUICE_URL: project.url('ingress-1'), SLUICE_API_KEY: apiKey };
    expect(await sluice(['deploy', 'examples/quickstart/shout.py'], env)).toMatchObject({ code: 0 });
    const shout = client('ingress-2').function<{ text: string }, string>('shout');
    const handle = await shout.deferBatch([{ text: 'one' }]);
    callId = handle.callId;
    expect(await handle.get({ timeoutMs: 60_000 })).toEqual(['ONE']);
  });

  it('is scraped by Prometheus in all of its processes, and shown by Grafana', async () => {
    type Targets = { data: { activeTargets: { health: string; labels: { role: string } }[] } };
    const prometheus = project.url('prometheus');
    const scraped = async (): Promise<string[]> => {
      const { data } = (await (await fetch(`${prometheus}/api/v1/targets`)).json()) as Targets;
      return data.activeTargets.filter(({ health }) => health === 'up').map(({ labels }) => labels.role);
    };
    const roles = ['buffer', 'buffer', 'ingress', 'ingress', 'worker', 'worker'];
    await eventually('six processes are scraped', async () => (await scraped()).length === roles.length);
    expect((await scraped()).toSorted()).toEqual(roles);
    const { uid } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as { uid: string };
    const grafana = project.url('grafana');
    await eventually('Grafana shows the dashboard', async () =>
      fetch(`${grafana}/api/dashboards/uid/${uid}`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
  });

  it('gives all processes one directory, and handlers a temporary one in which they may run what they made', async () => {
    const inside = (service: string, script: string): Promise<string> =>
      project.run('exec', '--no-TTY', service, 'sh', '-c', script);
    await inside('ingress-1', 'echo shared >/data/probe');
    expect(await inside('worker', 'cat /data/probe && rm /data/probe')).toBe('shared');
    expect(await inside('worker', 'cp "$(command -v env)" /tmp/made && A=b /tmp/made')).toContain('A=b');
    await expect(inside('worker', 'echo x >/app/x')).rejects.toThrow(/Read-only/);
  });

  it('loses no call while each process is started again', async () => {
    const shouts = ['ingress-1', 'ingress-2'].map((name) =>
      client(name).function<{ text: string }, string>('shout'),
    );
    let isOver = false;
    const lane = async (shout: (typeof shouts)[number], name: string): Promise<number> => {
      let calls = 0;
      while (!isOver) {
        const handle = await shout.deferBatch([{ text: `${name}${calls}` }]);
        expect(await handle.get({ timeoutMs: 60_000 })).toEqual([`${name.toUpperCase()}${calls}`]);
        calls += 1;
      }
      return calls;
    };
    const lanes = Promise.all([...shouts, ...shouts].map((shout, n) => lane(shout, `lane-${n}-`)));
    lanes.catch(() => undefined);
    for (const role of ROLES) {
      await project.run('restart', role);
      await eventually(`${role} is back`, () => project.isHealthy(role));
    }
    isOver = true;
    for (const calls of await lanes) expect(calls).toBeGreaterThan(5);
  });

  it('keeps keys, functions and results over down and up', async () => {
    await project.run('down');
    await up();
    expect(await project.logs('first-key')).toContain('has API keys already');
    const kept = client('ingress-1').call<string>(callId);
    expect(await kept.get({ timeoutMs: 60_000 })).toEqual(['ONE']);
  });
});

/**
 * A registered class from Python to a pod and back: a real server applies it, and this test does with the pod what a kubelet
 * would: runs the init container's command, then the handler's, with the paths of a directory in the place of volumes.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { V1Container, V1Deployment } from '@kubernetes/client-node';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { PYTHON, ROOT, SluiceServer, temporaryDirectory } from '../support/sluice-process.ts';
import { eventually, freePort, TestCluster } from './test-cluster.ts';

let test: TestCluster;

beforeAll(async () => {
  test = await TestCluster.start();
  await test.applyDeploy('namespace.yaml', 'rbac.yaml');
});
afterAll(() => test?.stop());

const MODEL = `
from sluice import Client, model_handler

@model_handler
class Scaler:
    def load_model(self):
        self.factor = float(self.files["factor.txt"].read_text())

    def predict(self, df):
        return {"scaled": [x * self.factor for x in df.to_arrow().column("x").to_pylist()]}
`;

const register = (factor: string, port: number): string => `${MODEL}
version = Client().register_model_version(
    name="scaler", model=Scaler(), files=[${JSON.stringify(factor)}],
    input_schema={"x": float}, output_schema={"scaled": float},
    model_image="registry.example/python:1")
Client().deploy_model_version_to_scaling_group(
    name="scaler-sg", model_name="scaler", model_version=version.model_version, backend="kubernetes", port=${port}, wait_ready=False)
`;

const run = promisify(execFile);

/** One container of a pod as processes of this machine run. */
class Containers {
  readonly #volumes = temporaryDirectory();
  readonly #children: ChildProcess[] = [];

  #here(text: string): string {
    return text
      .replaceAll('/opt/sluice', path.join(this.#volumes, 'home'))
      .replaceAll('/app/artifacts', path.join(this.#volumes, 'artifacts'))
      .replaceAll('/app/workers', path.join(ROOT, 'workers'))
      .replaceAll('exec python3', `exec ${PYTHON}`);
  }

  async init({ command, args }: V1Container): Promise<string> {
    const [, ...words] = [...command!, ...args!].map((word) => this.#here(word));
    const from = ['--entrypoint-from', path.join(ROOT, 'python/src/sluice')];
    return (await run(process.execPath, [...words, ...from])).stdout;
  }

  /** Answers when it listens. */
  async start({ command, args, env }: V1Container): Promise<void> {
    const [program, ...words] = [...command!, ...args!].map((word) => this.#here(word));
    const child = spawn(program!, words, {
      // Nothing of this checkout but what the init container brought.
      cwd: this.#volumes,
      env: {
        PATH: process.env.PATH,
        ...Object.fromEntries(env!.map(({ name, value }) => [name, value ?? ''])),
        SLUICE_ARTIFACTS: this.#here('/app/artifacts'),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    const ended = once(child, 'exit').then(() => Promise.reject(new Error('it ended before it listened')));
    const listens = new Promise<void>((resolve) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        if (line.includes('listens on')) resolve();
      });
    });
    await Promise.race([listens, ended]);
    ended.catch(() => undefined);
  }

  async stop(): Promise<void> {
    for (const child of this.#children.splice(0)) {
      if (child.exitCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
}

it('a class that was registered with an image is served by a pod', async () => {
  const server = await SluiceServer.start({
    args: [
      ...['--kubernetes-config', test.kubeconfig('worker'), '--kubernetes-namespace', 'sluice'],
      ...['--kubernetes-image', 'registry.example/sluice:1', '--kubernetes-address', 'http://127.0.0.1:1'],
    ],
  });
  onTestFinished(() => server.dispose());
  const directory = temporaryDirectory();
  const factor = path.join(directory, 'factor.txt');
  await writeFile(factor, '2.5');
  await writeFile(path.join(directory, 'scaler.py'), register(factor, await freePort()));
  const env = { ...process.env, ...server.env() };
  await run(PYTHON, [path.join(directory, 'scaler.py')], { env });
  const deployment = await eventually(async () => {
    const { items } = await test.objects.list<V1Deployment>('apps/v1', 'Deployment', 'sluice');
    expect(items).toHaveLength(1);
    return items[0]!;
  });
  const { initContainers, containers } = deployment.spec!.template.spec!;
  const pod = new Containers();
  onTestFinished(() => pod.stop());
  // The address is one that pods reach; here it is that of the server, on whatever port it took.
  const args = initContainers![0]!.args!.map((word) => word.replace('http://127.0.0.1:1', server.url));
  expect(await pod.init({ ...initContainers![0]!, args })).toContain('all files are there');
  await pod.start(containers[0]!);
  const made = await test.addPod(deployment);
  await test.setStatus(made, {
    phase: 'Running',
    conditions: [{ type: 'Ready', status: 'True' }],
    podIP: '127.0.0.1',
    podIPs: [{ ip: '127.0.0.1' }],
  });
  const answer = await fetch(`${server.url}/v1/functions/model.scaler-sg/calls`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=60', accept: 'application/json' },
    body: JSON.stringify({ columns: { x: [1, 2, -4] } }),
  });
  expect(await answer.json()).toMatchObject({ result: [2.5, 5, -10] });
});

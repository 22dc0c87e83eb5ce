/**
 * A registered class from Python to a pod and back: a real server applies it, and this test does with the pod what a kubelet
 * would: runs the init container's command, then the handler's, with the paths of a directory in the place of volumes.
 */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type { V1Deployment } from '@kubernetes/client-node';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { PYTHON, SluiceServer, temporaryDirectory } from '../support/sluice-process.ts';
import { PodContainers } from './pod-containers.ts';
import { eventually, TestCluster } from './test-cluster.ts';

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
  const pod = new PodContainers();
  onTestFinished(() => pod.stop());
  const address = { told: 'http://127.0.0.1:1', really: server.url };
  expect(await pod.init(initContainers![0]!, address)).toContain('all files are there');
  await pod.start(containers[0]!, 'listens on');
  await test.addReadyPod(deployment, '127.0.0.1');
  const answer = await fetch(`${server.url}/v1/functions/model.scaler-sg/calls`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=60', accept: 'application/json' },
    body: JSON.stringify({ columns: { x: [1, 2, -4] } }),
  });
  expect(await answer.json()).toMatchObject({ result: [2.5, 5, -10] });
});

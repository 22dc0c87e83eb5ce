/**
 * An imported model on an inference engine in the cluster: a real API server takes what is applied, and this test does with
 * its pods what a kubelet would. The engine is a real HTTP server, at the pod's address and port.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { V1Container, V1Deployment } from '@kubernetes/client-node';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { Sluice } from '../../sdk/index.ts';
import { freePort } from '../support/free-port.ts';
import { PYTHON, ROOT, SluiceServer, temporaryDirectory } from '../support/sluice-process.ts';
import { PodContainers } from './pod-containers.ts';
import { eventually, TestCluster } from './test-cluster.ts';

const SCALER = path.join(ROOT, 'test/fixtures/engines/oip_scaler.py');
/** One that pods reach; here it is that of the server, on whatever port it took. */
const ADDRESS = 'http://127.0.0.1:1';
const PROBE = {
  initial_delay_seconds: 1,
  timeout_seconds: 2,
  period_seconds: 3,
  success_threshold: 2,
  failure_threshold: 7,
};

let test: TestCluster;
let server: SluiceServer;
let client: Sluice;

beforeAll(async () => {
  test = await TestCluster.start();
  await test.applyDeploy('namespace.yaml', 'rbac.yaml');
  server = await SluiceServer.start({
    args: [
      ...['--kubernetes-config', test.kubeconfig('worker'), '--kubernetes-namespace', 'sluice'],
      ...['--kubernetes-image', 'registry.example/sluice:1', '--kubernetes-address', ADDRESS],
    ],
  });
  client = new Sluice({ url: server.url });
});
afterAll(async () => {
  await server?.dispose();
  await test?.stop();
});

/** Its files are its own; so is its port, since all pods of this test are at one address. */
const registerEngine = (version: string, port: number, more: object = {}) =>
  client.engines.create({
    ...{ project: 'numbers', name: 'scaler', version, is_default: true, port, inference_protocol: 'oip-v2' },
    container_image_cpu: `registry.example/scaler:${version}`,
    ...{ entrypoint: [PYTHON], command: [SCALER, '{port}'], readiness_probe: PROBE, env: { MODE: 'fast' } },
    predictor_env_schema: [
      { name: 'OFFSET', type: 'float', default_value: 0 },
      { name: 'SHOUT', type: 'bool' },
    ],
    ...more,
  });

const importModel = async (): Promise<void> => {
  const directory = temporaryDirectory();
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(path.join(directory, 'weights'));
  writeFileSync(path.join(directory, 'weights/factor.txt'), '3');
  const { code, stderr } = await server.run([
    ...['models', 'import', 'numbers', 'Tripled', directory, '--task-type', 'Regression'],
  ]);
  expect([code, stderr]).toEqual([0, '']);
};

const deploy = (predictor: object) =>
  client.scalingGroups.deploy('tripled', {
    model: 'Tripled',
    backend: 'kubernetes',
    engine_selector: { project_name: 'numbers', engine_name: 'scaler' },
    predictor_env_var: predictor as Record<string, string>,
  });

const deployments = async (): Promise<V1Deployment[]> =>
  (await test.objects.list<V1Deployment>('apps/v1', 'Deployment', 'sluice')).items;

const containerOf = ({ spec }: V1Deployment): V1Container => spec!.template.spec!.containers[0]!;

const deploymentAt = (port: number): Promise<V1Deployment> =>
  eventually(async () => {
    const found = (await deployments()).find((one) => containerOf(one).ports![0]!.containerPort === port);
    expect(found).toBeDefined();
    return found!;
  });

/** What a kubelet does with a pod of it, from the init container on. */
const servingPod = async (deployment: V1Deployment): Promise<void> => {
  const pod = new PodContainers();
  onTestFinished(() => pod.stop());
  const { initContainers } = deployment.spec!.template.spec!;
  expect(await pod.init(initContainers![0]!, { told: ADDRESS, really: server.url })).toContain('all files');
  await pod.start(containerOf(deployment), 'scaling by 3.0 for Regression');
  await test.addReadyPod(deployment, '127.0.0.1');
};

const predict = async (values: readonly number[]): Promise<unknown> => {
  const response = await fetch(`${server.url}/v1/functions/model.tripled/calls`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=60' },
    body: JSON.stringify({ columns: { value: values } }),
  });
  const { status, result, errors } = (await response.json()) as Record<string, unknown>;
  return errors === undefined || status === 'completed' ? result : { status, errors };
};

it('is probed as it was registered, told its predictor, called through the queue, and updated', async () => {
  const [port, next] = [await freePort(), await freePort()];
  await registerEngine('1', port);
  await importModel();
  const begun = await deploy({ OFFSET: '0.5', LEVEL: 'high' });
  const deployment = await deploymentAt(port);
  const container = containerOf(deployment);
  expect(container).toMatchObject({
    image: 'registry.example/scaler:1',
    command: [PYTHON, SCALER, String(port)],
    ports: [{ name: 'http', containerPort: port }],
  });
  // As the API server has it: whole, and with nothing of its own defaults in the place of what was registered.
  expect(container.readinessProbe).toEqual({
    httpGet: { path: '/v2/models/tripled/ready', port, scheme: 'HTTP' },
    initialDelaySeconds: 1,
    timeoutSeconds: 2,
    periodSeconds: 3,
    successThreshold: 2,
    failureThreshold: 7,
  });
  const variables = Object.fromEntries(container.env!.map(({ name, value }) => [name, value]));
  expect(variables).toMatchObject({
    ...{ OFFSET: '0.5', LEVEL: 'high', MODE: 'fast', PORT: String(port) },
    ...{ SLUICE_MODEL_ID: 'Tripled', CHARIOT_MODEL_ID: 'Tripled', SLUICE_TASK_TYPE: 'Regression' },
    ...{ SLUICE_MODEL_PATH: '/mnt/models' },
  });
  expect(container.volumeMounts).toContainEqual(
    expect.objectContaining({ mountPath: '/mnt/models', readOnly: true }),
  );
  const waiting = predict([1, 2, -4]);
  await servingPod(deployment);
  expect(await waiting).toEqual([3.5, 6.5, -11.5]);
  await client.scalingGroups.waitReady('tripled', { since: begun, timeoutMs: 60_000 });

  await registerEngine('2', next);
  const update = await deploy({ SHOUT: 'true' });
  const staged = await deploymentAt(next);
  // What serves goes on until the other is ready.
  expect(await predict([1])).toEqual([3.5]);
  await servingPod(staged);
  await client.scalingGroups.waitReady('tripled', { since: update, timeoutMs: 60_000 });
  expect(await predict([1, 2])).toEqual([-3, -6]);
  await eventually(async () =>
    expect((await deployments()).map(({ metadata }) => metadata!.name)).toEqual([staged.metadata!.name]),
  );
  await client.scalingGroups.remove('tripled');
  await eventually(async () => expect(await deployments()).toEqual([]));
});

it('is refused where the engine has no image, which is what a cluster starts', async () => {
  await registerEngine('without', 8080, { container_image_cpu: null });
  await importModel();
  await expect(deploy({})).rejects.toThrow(
    'backend is "kubernetes"; give "process": scaler is a command without an image.',
  );
});

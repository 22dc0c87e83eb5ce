/** A whole server but for HTTP, whose worker runs a function in the cluster: from rows to rows, updates, removal. */
import type { KubernetesObject, V1Deployment, V1Pod } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { FunctionRecord, FunctionSpec, FunctionVersion } from '../../shared/domain/function.ts';
import { makeKubernetesBackend } from '../../workers/kubernetes/index.ts';
import { objectName } from '../../workers/kubernetes/names.ts';
import { KINDS } from '../../workers/kubernetes/objects.ts';
import { freePort } from '../support/free-port.ts';
import { PLAIN_SPEC } from '../support/function-spec.ts';
import { Rig } from '../unit/workers/rig.ts';
import { CONTAINER, FIXED, imageVersion, OPTIONS } from './image-version.ts';
import { PodServer } from './pod-server.ts';
import { eventually, TestCluster } from './test-cluster.ts';

let test: TestCluster;
let port: number;
let lastHost = 100;

beforeAll(async () => {
  test = await TestCluster.start();
  await test.applyDeploy('namespace.yaml', 'rbac.yaml');
  port = await freePort();
});
afterAll(() => test?.stop());

const specOf = (overrides: Partial<FunctionSpec> = {}): FunctionSpec =>
  imageVersion({
    name: 'model.shout',
    inputs: [{ name: 'text', type: 'utf8', nullable: false }],
    output: { type: 'utf8', nullable: true },
    inputMode: 'table',
    // A lost node is an attempt.
    retry: { ...PLAIN_SPEC.retry, retries: 3 },
    container: { ...CONTAINER, port },
    ...overrides,
  }).spec;

/** One replica. */
const SINGLE = { ...FIXED, minReplicas: 1, maxReplicas: 1 };

const openRig = (): Promise<Rig> =>
  Rig.open({
    backends: {
      kubernetes: (parts) =>
        makeKubernetesBackend({ ...OPTIONS, kubeconfig: test.kubeconfig('worker'), peers: parts.peers })(
          parts,
        ),
    },
  });

const referenceOf = (version: FunctionVersion, kind: (typeof KINDS)[number]) => ({
  ...kind,
  metadata: { name: objectName(version), namespace: 'sluice' },
});

const deploymentOf = (version: FunctionVersion): Promise<V1Deployment> =>
  eventually(() => test.objects.read<V1Deployment>(referenceOf(version, KINDS.at(-1)!) as never));

const isGone = (version: FunctionVersion): Promise<void> =>
  eventually(async () => {
    for (const kind of KINDS.filter(({ apiVersion }) => !apiVersion.startsWith('keda'))) {
      const found: unknown = await test.objects
        .read<KubernetesObject>(referenceOf(version, kind) as never)
        .catch(({ code }: { code: number }) => code);
      expect(found).toBe(404);
    }
  });

/** What the controllers and a kubelet do for one replica. */
const replica = async (version: FunctionVersion): Promise<{ pod: V1Pod; server: PodServer }> => {
  lastHost += 1;
  const server = await PodServer.start(`127.0.0.${lastHost}`, port);
  onTestFinished(() => server.stop());
  return { pod: await test.addReadyPod(await deploymentOf(version), server.ip), server };
};

describe('a function in the cluster', () => {
  it('answers rows, in order, from the pods of its version, and loses none with a pod', async () => {
    const rig = await openRig();
    const record = await rig.deploy(specOf(), { scaling: SINGLE });
    const waiting = rig.run(record, ['a', 'b', 'c']);
    const { server, pod } = await replica(record.current);
    expect(await waiting).toMatchObject({
      status: 'completed',
      values: ['a', 'b', 'c'].map((text) => `${text} at ${server.ip}`),
    });
    const report = await rig.report(record, ({ ready }) => ready === 1);
    expect(report.replicas).toMatchObject([{ state: 'ready', place: pod.metadata!.name }]);
    const { arrived } = server.hold();
    const interrupted = rig.run(record, ['d']);
    await arrived;
    // The node loses its power, and a pod elsewhere takes its place.
    server.stop();
    await test.removePod(pod);
    const next = await replica(record.current);
    expect(await interrupted).toMatchObject({ status: 'completed', values: [`d at ${next.server.ip}`] });
    await rig.store.registry.remove(record.name);
    await isGone(record.current);
  });

  it('starts a new version beside the old one, which is taken away when the new one has its place', async () => {
    const rig = await openRig();
    const first = await rig.deploy(specOf({ name: 'model.update' }), { scaling: SINGLE });
    const old = await replica(first.current);
    await rig.report(first, ({ ready }) => ready === 1);
    const changed = specOf({
      name: 'model.update',
      container: { ...CONTAINER, port, image: { reference: 'registry.example/house:2' } },
    });
    const { staged } = (await rig.deploy(changed, { isStaged: true })) as FunctionRecord;
    const fresh = await replica(staged!);
    await rig.report(first, ({ ready }) => ready === 1, staged!);
    expect(await rig.run(first, ['x'])).toMatchObject({ values: [`x at ${old.server.ip}`] });
    const settle = { now: Date.now(), name: first.name, digest: staged!.digest, end: 'activate' } as const;
    expect(await rig.store.registry.settleStaged(settle)).toBe(true);
    const current = (await rig.store.registry.function(first.name))!;
    expect(await rig.run(current, ['y'])).toMatchObject({ values: [`y at ${fresh.server.ip}`] });
    await isGone(first.current);
    expect((await deploymentOf(staged!)).spec!.template.spec!.containers[0]!.image).toBe(
      'registry.example/house:2',
    );
  });

  it('tells why its pods do not start', async () => {
    const rig = await openRig();
    const record = await rig.deploy(specOf({ name: 'model.broken' }), { scaling: SINGLE });
    const pod = await test.addPod(await deploymentOf(record.current));
    const state = { waiting: { reason: 'ImagePullBackOff', message: 'manifest unknown' } };
    const status = { name: 'handler', image: 'i', imageID: '', ready: false, restartCount: 0, state };
    await test.setStatus(pod, { phase: 'Pending', containerStatuses: [status] });
    const report = await rig.report(record, ({ failed }) => failed === 1);
    expect(report.reason).toContain('ImagePullBackOff: manifest unknown');
    const refused = await rig.deploy(specOf({ name: 'model.none', runtime: 'python', container: null }), {
      scaling: SINGLE,
    });
    const { reason } = await rig.report(refused, (found) => found.reason !== null);
    expect(reason).toContain('register the version with an image that a registry holds');
  });
});

/** Pods of a version as the workers see them: shared out, attached to, let go; with a real watch and real connections. */
import type { V1Deployment, V1Pod, V1PodStatus } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import { silentLog } from '../../shared/runtime/log.ts';
import type { Backend, Followed, HandlerInstance } from '../../workers/backend.ts';
import type { HandlerAnswer } from '../../workers/handler.ts';
import { type KubernetesOptions, makeKubernetesBackend } from '../../workers/kubernetes/index.ts';
import { objectName } from '../../workers/kubernetes/names.ts';
import { freePort } from '../support/free-port.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { batchOf, CONTEXT, valuesOf } from '../unit/workers/grpc/handler-server.ts';
import { CONTAINER, FIXED, imageVersion, OPTIONS } from './image-version.ts';
import { Kubelet } from './kubelet.ts';
import { PodServer } from './pod-server.ts';
import { eventually, TestCluster } from './test-cluster.ts';

let test: TestCluster;
let port: number;
let lastHost = 1;

beforeAll(async () => {
  test = await TestCluster.start();
  await test.applyDeploy('namespace.yaml', 'rbac.yaml');
  port = await freePort();
});
afterAll(() => test?.stop());

const version = (): FunctionVersion =>
  imageVersion({ output: { type: 'utf8', nullable: true }, container: { ...CONTAINER, port } });

/** One worker on one version, and what it was told. */
class Follower {
  readonly failures: string[] = [];
  readonly lines: string[] = [];
  replicas = -1;
  readonly backend: Backend;
  readonly followed: Followed;
  readonly #version: FunctionVersion;

  private constructor(backend: Backend, of: FunctionVersion, scaling: Scaling) {
    this.backend = backend;
    this.#version = of;
    this.followed = backend.follow!(
      of,
      scaling,
      (replicas) => {
        this.replicas = replicas;
      },
      (reason) => this.failures.push(reason),
    );
  }

  static async start(
    of: FunctionVersion,
    {
      workerId = 'worker-1',
      options = {},
      apiPort = test.port,
    }: { workerId?: string; options?: Partial<KubernetesOptions>; apiPort?: number } = {},
  ): Promise<Follower> {
    const make = makeKubernetesBackend({
      ...OPTIONS,
      kubeconfig: test.kubeconfig('worker', apiPort),
      ...options,
    });
    const backend = await make({ log: silentLog(), workerId } as never);
    onTestFinished(() => backend.stop());
    return new Follower(backend, of, FIXED);
  }

  launch(): Promise<HandlerInstance> {
    return this.backend.launch({
      signal: new AbortController().signal,
      version: this.#version,
      replica: 0,
      devices: [],
      onLine: (_, text) => this.lines.push(text),
    });
  }

  async attached(): Promise<HandlerInstance> {
    const replica = await this.launch();
    await replica.ready;
    return replica;
  }
}

const deploymentOf = (of: FunctionVersion): Promise<V1Deployment> =>
  eventually(() =>
    test.objects.read<V1Deployment>({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: objectName(of), namespace: 'sluice' },
    } as never),
  );

const READY: V1PodStatus = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };

/** What a kubelet says of a pod whose handler runs. */
const running = (ip: string, restartCount = 0): V1PodStatus => ({
  ...READY,
  podIP: ip,
  podIPs: [{ ip }],
  containerStatuses: [
    {
      name: 'handler',
      image: 'i',
      imageID: 'i',
      ready: true,
      restartCount,
      state: { running: { startedAt: new Date() } },
    },
  ],
});

const waiting = (
  reason: string,
  message?: string,
  exit?: { reason: string; exitCode: number; message?: string },
) => ({
  phase: 'Pending',
  containerStatuses: [
    {
      name: 'handler',
      image: 'i',
      imageID: '',
      ready: false,
      restartCount: exit === undefined ? 0 : 3,
      state: { waiting: { reason, ...(message === undefined ? {} : { message }) } },
      ...(exit === undefined ? {} : { lastState: { terminated: exit } }),
    },
  ],
});

const serve = async (): Promise<PodServer> => {
  lastHost += 1;
  const server = await PodServer.start(`127.0.0.${lastHost}`, port);
  onTestFinished(() => server.stop());
  return server;
};

/** A pod that serves. */
const readyPod = async (of: FunctionVersion): Promise<{ pod: V1Pod; server: PodServer }> => {
  const server = await serve();
  const pod = await test.addPod(await deploymentOf(of));
  await test.setStatus(pod, running(server.ip));
  return { pod, server };
};

const run = (replica: HandlerInstance, ...x: number[]): Promise<HandlerAnswer> =>
  replica.run(batchOf({ x }), CONTEXT, new AbortController().signal, () => {});

/** A pod that serves, and a batch with a 5 in it that does not end by itself. */
const heldBatch = async (of: FunctionVersion) => {
  const follower = await Follower.start(of);
  const { pod, server } = await readyPod(of);
  await eventually(() => expect(follower.replicas).toBe(1));
  const replica = await follower.attached();
  const { arrived, letGo } = server.hold();
  const answer = run(replica, 5);
  await arrived;
  return { follower, replica, pod, server, answer, letGo };
};

describe('a worker', () => {
  it('applies the version, attaches to its pods, and takes it away', async () => {
    const of = version();
    const follower = await Follower.start(of);
    expect((await deploymentOf(of)).spec!.replicas).toBe(2);
    await eventually(() => expect(follower.replicas).toBe(0));
    await expect(follower.launch()).rejects.toThrow('the cluster has no free pod of it for this worker');
    const [one, two] = [await readyPod(of), await readyPod(of)];
    await eventually(() => expect(follower.replicas).toBe(2));
    const replicas = [await follower.attached(), await follower.attached()];
    expect(replicas.map(({ place }) => place).toSorted()).toEqual(
      [one, two].map(({ pod }) => pod.metadata!.name).toSorted(),
    );
    const answers = await Promise.all(replicas.map((replica) => run(replica, 1, 2)));
    expect(answers.flatMap(valuesOf).toSorted()).toEqual(
      [one, two].flatMap(({ server }) => [`1 at ${server.ip}`, `2 at ${server.ip}`]).toSorted(),
    );
    await expect(follower.launch()).rejects.toThrow('no free pod');
    expect(await replicas[0]!.usage()).toBeNull();
    await follower.followed.end('remove');
    await expect(Promise.all(replicas.map(({ gone }) => gone))).resolves.toHaveLength(2);
    await expect(
      test.objects.read({
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: objectName(of), namespace: 'sluice' },
      }),
    ).rejects.toMatchObject({ code: 404 });
  });

  it('leaves the version in the cluster when only it goes', async () => {
    const of = version();
    const follower = await Follower.start(of);
    await deploymentOf(of);
    await follower.followed.end('keep');
    expect((await deploymentOf(of)).spec!.replicas).toBe(2);
  });

  it('waits for a pod that starts, and is ready when the pod is', async () => {
    const of = version();
    const follower = await Follower.start(of);
    const server = await serve();
    const pod = await test.addPod(await deploymentOf(of), null);
    const message = '0/3 nodes are available: 3 Insufficient nvidia.com/gpu.';
    await test.setStatus(pod, {
      phase: 'Pending',
      conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }],
    });
    await eventually(() => expect(follower.replicas).toBe(1));
    const replica = await follower.launch();
    expect(replica.place).toBe(pod.metadata!.name);
    await eventually(() => expect(follower.lines.join()).toContain(`waits: Unschedulable: ${message}`));
    expect(await run(replica, 1)).toEqual({ end: 'unstarted' });
    await test.setStatus(pod, running(server.ip));
    await replica.ready;
    expect(valuesOf(await run(replica, 7))).toEqual([`7 at ${server.ip}`]);
  });

  it('says why a pod does not start', async () => {
    const of = version();
    const follower = await Follower.start(of);
    const deployment = await deploymentOf(of);
    const cases: [V1PodStatus, RegExp][] = [
      [
        waiting('CrashLoopBackOff', 'back-off 40s', {
          reason: 'Error',
          exitCode: 1,
          message: 'ModuleNotFoundError: torch',
        }),
        /CrashLoopBackOff: ended with Error \(exit code 1: ModuleNotFoundError: torch\)/,
      ],
      [
        waiting('CrashLoopBackOff', 'back-off 40s', { reason: 'OOMKilled', exitCode: 137 }),
        /OOMKilled \(exit code 137\); deploy with more memory/,
      ],
      [
        waiting('ImagePullBackOff', 'manifest unknown'),
        /ImagePullBackOff: manifest unknown; check the image's name/,
      ],
      [
        { phase: 'Failed', reason: 'Evicted', message: 'The node was low on resource: ephemeral-storage.' },
        /no free pod/,
      ],
    ];
    for (const [status, reason] of cases) {
      const pod = await test.addPod(deployment);
      await test.setStatus(pod, status);
      await eventually(async () => {
        const failure = await follower.attached().then(
          () => '',
          (error: Error) => error.message,
        );
        expect(failure).toMatch(reason);
      });
      await test.removePod(pod);
      await eventually(() => expect(follower.replicas).toBe(0));
    }
  });

  it('finishes what runs in a pod that is deleted, and gives it nothing more', async () => {
    const { follower, replica, pod, server, answer, letGo } = await heldBatch(version());
    await test.core.deleteNamespacedPod({ name: pod.metadata!.name!, namespace: 'sluice' });
    await eventually(() => expect(follower.replicas).toBe(0));
    expect(await run(replica, 6)).toEqual({ end: 'unstarted' });
    letGo();
    expect(valuesOf(await answer)).toEqual([`5 at ${server.ip}`]);
    await expect(replica.gone).resolves.toBe('its pod leaves: it is being deleted');
    await test.removePod(pod);
  });

  it('tells a batch how its container ended', async () => {
    const { follower, replica, pod, server, answer } = await heldBatch(version());
    const after = running(server.ip, 1);
    after.containerStatuses![0]!.lastState = { terminated: { reason: 'OOMKilled', exitCode: 137 } };
    await test.setStatus(pod, after);
    expect(await answer).toMatchObject({
      end: 'crash',
      error: { code: 'handler_crashed', message: expect.stringContaining('OOMKilled (exit code 137)') },
    });
    // The kubelet has started it again.
    await replica.gone;
    await follower.attached();
  });

  it('deletes the pod of a handler that does not listen any more', async () => {
    const { follower, replica, pod, answer } = await heldBatch(version());
    replica.kill('the call timeout was reached');
    expect(await answer).toMatchObject({ end: 'crash' });
    await eventually(async () => {
      const found = await test.core.readNamespacedPod({ name: pod.metadata!.name!, namespace: 'sluice' });
      expect(found.metadata!.deletionTimestamp).toBeDefined();
    });
    await eventually(() => expect(follower.replicas).toBe(0));
    await test.removePod(pod);
  });

  it('puts right what somebody deleted', async () => {
    const of = version();
    const follower = await Follower.start(of);
    const { metadata } = await deploymentOf(of);
    await test.objects.delete({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: metadata! });
    const again = await deploymentOf(of);
    expect(again.metadata!.uid).not.toBe(metadata!.uid);
    expect(follower.failures).toEqual([]);
  });

  it('says what keeps the cluster from making pods', async () => {
    const of = version();
    const follower = await Follower.start(of);
    const message = 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1';
    await eventually(async () => {
      const deployment = await deploymentOf(of);
      const condition = { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message };
      await test.apps.replaceNamespacedDeploymentStatus({
        name: deployment.metadata!.name!,
        namespace: 'sluice',
        body: { ...deployment, status: { conditions: [condition] } },
      });
    });
    await eventually(() =>
      expect(follower.failures).toEqual([`pods cannot be made: FailedCreate: ${message}`]),
    );
    await expect(follower.launch()).rejects.toThrow('exceeded quota');
  });

  it('says what the version lacks to run in a cluster', async () => {
    const containerfile = { containerfile: 'FROM python', context: [] };
    const cases: [FunctionVersion, Partial<KubernetesOptions>, RegExp][] = [
      [
        imageVersion({ runtime: 'python', container: null }),
        {},
        /runtime="python" without an image cannot run in a cluster/,
      ],
      [
        imageVersion({ container: { ...CONTAINER, image: containerfile } }),
        {},
        /build and push it.*model_image=/,
      ],
      [
        imageVersion({ container: { ...CONTAINER, handler: 'm.h' } }),
        { image: '' },
        /give --kubernetes-image/,
      ],
      [
        imageVersion({ resources: { cpu: null, memoryBytes: null, gpu: 'l4:many' } }),
        {},
        /gpu="l4:many" is no type and count/,
      ],
    ];
    for (const [of, options, reason] of cases) {
      const follower = await Follower.start(of, { options });
      await eventually(() => expect(follower.failures).toEqual([expect.stringMatching(reason)]));
      await follower.followed.end('remove');
    }
  });
});

describe('what a pod tells of itself', () => {
  it('is followed line by line, through a cut, and no line comes twice', async () => {
    const kubelet = await Kubelet.start(test, 'node-1');
    onTestFinished(() => kubelet.stop());
    const of = version();
    const follower = await Follower.start(of);
    await readyPod(of);
    await eventually(() => expect(follower.replicas).toBe(1));
    await follower.attached();
    await eventually(() => expect(kubelet.asked).toHaveLength(1));
    expect(kubelet.asked[0]!.pathname).toMatch(/^\/containerLogs\/sluice\/sluice-house-price-.*\/handler$/);
    kubelet.print('2026-11-21T15:00:00.000000001Z', 'loaded 3 files');
    await eventually(() => expect(follower.lines).toEqual(['loaded 3 files']));
    kubelet.cut();
    await eventually(() => expect(kubelet.asked).toHaveLength(2));
    expect(kubelet.asked[1]!.searchParams.get('sinceTime')).toMatch(/^2026-11-21T15:00:00/);
    kubelet.print('2026-11-21T15:00:00.000000001Z', 'loaded 3 files');
    kubelet.print('2026-11-21T15:00:00.000000002Z', 'serving');
    await eventually(() => expect(follower.lines).toEqual(['loaded 3 files', 'serving']));
  });

  it('is measured where metrics.k8s.io is served', async () => {
    await test.serveMetrics();
    const of = version();
    const follower = await Follower.start(of);
    const { pod } = await readyPod(of);
    await eventually(() => expect(follower.replicas).toBe(1));
    const replica = await follower.attached();
    expect(await replica.usage()).toBeNull();
    await test.measure(pod, { cpu: '250m', memory: '128Mi' });
    const usage = await eventually(async () => {
      const found = await replica.usage();
      expect(found).not.toBeNull();
      return found!;
    });
    expect(usage.memoryBytes).toBe(2 ** 27);
    expect(usage.cpuMs).toBeGreaterThan(0);
  });
});

describe('several workers', () => {
  it('share the pods out, each pod with one of them, and take over those of one that goes', async () => {
    const of = version();
    let workers = ['worker-1', 'worker-2'];
    const options = { peers: async () => workers };
    const first = await Follower.start(of, { workerId: 'worker-1', options });
    const second = await Follower.start(of, { workerId: 'worker-2', options });
    for (let i = 0; i < 6; i += 1) await readyPod(of);
    await eventually(() => expect(first.replicas + second.replicas).toBe(6));
    const places: (string | null)[] = [];
    for (const follower of [first, second])
      for (let i = 0; i < follower.replicas; i += 1) places.push((await follower.attached()).place);
    expect(new Set(places).size).toBe(6);
    workers = ['worker-1'];
    await second.backend.stop();
    await eventually(() => expect(first.replicas).toBe(6));
    while ((await first.launch().catch(() => null)) !== null);
    expect((await deploymentOf(of)).metadata!.labels!['app.kubernetes.io/managed-by']).toBe('sluice');
  });
});

describe('a cluster that is lost for a while', () => {
  it('is followed again after a cut, without missing the pods that were deleted meanwhile', async () => {
    const proxy = await TcpProxy.start(test.port);
    onTestFinished(() => proxy.stop());
    const of = version();
    const follower = await Follower.start(of, { apiPort: proxy.port });
    const [kept, deleted] = [await readyPod(of), await readyPod(of)];
    await eventually(() => expect(follower.replicas).toBe(2));
    const replicas = [await follower.attached(), await follower.attached()];
    proxy.silence();
    await test.removePod(deleted.pod);
    const survivor = replicas.find(({ place }) => place === kept.pod.metadata!.name)!;
    const other = replicas.find((replica) => replica !== survivor)!;
    // Batches need no API server.
    expect(valuesOf(await run(survivor, 1))).toEqual([`1 at ${kept.server.ip}`]);
    proxy.resume();
    await expect(other.gone).resolves.toMatch(/deleted/);
    await eventually(() => expect(follower.replicas).toBe(1));
    expect(valuesOf(await run(survivor, 2))).toEqual([`2 at ${kept.server.ip}`]);
  });

  it('is followed again when the API server was gone and is back, with what happened meanwhile', async () => {
    const of = version();
    const follower = await Follower.start(of);
    const [kept, deleted] = [await readyPod(of), await readyPod(of)];
    await eventually(() => expect(follower.replicas).toBe(2));
    const replicas = [await follower.attached(), await follower.attached()];
    await test.killServer();
    const survivor = replicas.find(({ place }) => place === kept.pod.metadata!.name)!;
    const other = replicas.find((replica) => replica !== survivor)!;
    expect(valuesOf(await run(survivor, 1))).toEqual([`1 at ${kept.server.ip}`]);
    await test.elsewhere(() => test.removePod(deleted.pod));
    await test.startServer();
    const added = await readyPod(of);
    await expect(other.gone).resolves.toBe('its pod was deleted');
    await eventually(() => expect(follower.replicas).toBe(2));
    await eventually(async () => {
      const replica = await follower.attached();
      expect(replica.place).toBe(added.pod.metadata!.name);
    });
    expect(valuesOf(await run(survivor, 2))).toEqual([`2 at ${kept.server.ip}`]);
    expect(follower.failures).toEqual([]);
  });
});

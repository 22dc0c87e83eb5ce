/** What is applied to a real API server, by the account and the rights of deploy/kubernetes. */
import type {
  KubernetesObject,
  V1Deployment,
  V1PodDisruptionBudget,
  V1Service,
  V2HorizontalPodAutoscaler,
} from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import { AppliedObjects } from '../../workers/kubernetes/applied-objects.ts';
import { Cluster, loadKubeConfig } from '../../workers/kubernetes/cluster.ts';
import type { ClusterOptions } from '../../workers/kubernetes/index.ts';
import { objectName } from '../../workers/kubernetes/names.ts';
import { CONTAINER, ELASTIC, FIXED, imageVersion, OPTIONS } from './image-version.ts';
import { KEDA_CRD, TestCluster } from './test-cluster.ts';

let test: TestCluster;
let cluster: Cluster;

beforeAll(async () => {
  test = await TestCluster.start();
  await test.applyDeploy('namespace.yaml', 'rbac.yaml');
  cluster = new Cluster(loadKubeConfig(test.kubeconfig('worker')));
});
afterAll(() => test?.stop());

const applied = (version: FunctionVersion, options: Partial<ClusterOptions> = {}): AppliedObjects =>
  new AppliedObjects(cluster, { ...OPTIONS, ...options }, version);

const read = async <T extends KubernetesObject>(
  version: FunctionVersion,
  apiVersion: string,
  kind: string,
): Promise<T | null> =>
  test.objects
    .read<T>({ apiVersion, kind, metadata: { name: objectName(version), namespace: 'sluice' } } as never)
    .catch((error: { code?: number }) => {
      if (error.code !== 404) throw error;
      return null;
    });
const readDeployment = (version: FunctionVersion) => read<V1Deployment>(version, 'apps/v1', 'Deployment');
const readHpa = (version: FunctionVersion) =>
  read<V2HorizontalPodAutoscaler>(version, 'autoscaling/v2', 'HorizontalPodAutoscaler');
const readBudget = (version: FunctionVersion) =>
  read<V1PodDisruptionBudget>(version, 'policy/v1', 'PodDisruptionBudget');
const readService = (version: FunctionVersion) => read<V1Service>(version, 'v1', 'Service');

/** As kubectl scale does it, under the name of whoever scales. */
const scale = async (version: FunctionVersion, replicas: number, manager: string): Promise<void> => {
  const body = { ...(await readDeployment(version))! };
  await test.applyAs(
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: body.metadata!.name!, namespace: 'sluice' },
      spec: { replicas },
    } as KubernetesObject,
    manager,
    true,
  );
};

describe('a version in the cluster', () => {
  it('is a deployment, a headless service and a disruption budget, all read back as they were applied', async () => {
    const version = imageVersion({
      resources: { cpu: 1.5, memoryBytes: 2 ** 31, gpu: 'nvidia-tesla-t4:2' },
      environment: { base: null, steps: [], env: { LEVEL: '3' }, isolated: false, interpreter: null },
      model: {
        name: 'house',
        version: 3,
        files: [{ path: 'model.skops', digest: `sha256:${'a'.repeat(64)}`, bytes: 1000 }],
        loader: null,
      },
    });
    await applied(version).apply(FIXED);
    const deployment = (await readDeployment(version))!;
    expect(deployment.spec!.replicas).toBe(2);
    expect(deployment.metadata!.annotations).toMatchObject({
      'sluice/function': 'model.house-price',
      'sluice/model': 'house:3',
    });
    const pod = deployment.spec!.template.spec!;
    expect(pod.nodeSelector).toEqual({ 'cloud.google.com/gke-accelerator': 'nvidia-tesla-t4' });
    expect(pod.tolerations).toEqual([{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }]);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(60);
    expect(pod.automountServiceAccountToken).toBe(false);
    const [handler] = pod.containers;
    expect(handler).toMatchObject({
      image: 'registry.example/house:1',
      resources: {
        requests: { cpu: '1500m', memory: '2147483648' },
        limits: { memory: '2147483648', 'nvidia.com/gpu': '2' },
      },
      securityContext: {
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
        readOnlyRootFilesystem: true,
      },
      startupProbe: { tcpSocket: { port: 8080 }, failureThreshold: 900 },
      readinessProbe: { tcpSocket: { port: 8080 } },
      lifecycle: { preStop: { sleep: { seconds: 5 } } },
    });
    expect(handler!.env).toEqual(
      expect.arrayContaining([
        { name: 'HOME', value: '/tmp' },
        { name: 'LEVEL', value: '3' },
        { name: 'PORT', value: '8080' },
      ]),
    );
    expect(pod.initContainers![0]!.args).toEqual(
      expect.arrayContaining(['--model', 'house', '--version', '3', '--key-file', '/run/sluice/key']),
    );
    const service = (await readService(version))!;
    expect(service.spec).toMatchObject({ clusterIP: 'None', ports: [{ port: 8080, targetPort: 'grpc' }] });
    expect((await readBudget(version))!.spec).toMatchObject({ maxUnavailable: 1 });
    expect(await readHpa(version)).toBeNull();
  });

  it('has pods that the namespace admits under the restricted standard, with files and with our entrypoint', async () => {
    const version = imageVersion({
      container: { ...CONTAINER, handler: 'model.handler', onStartup: 'model.up' },
    });
    await applied(version).apply(FIXED);
    const pod = await test.addPod((await readDeployment(version))!);
    expect(pod.spec!.containers[0]).toMatchObject({
      args: expect.arrayContaining([
        '--handler',
        'model.handler',
        '--on-startup',
        'model.up',
        '--port',
        '8080',
      ]),
      readinessProbe: { grpc: { port: 8080 } },
    });
    const open = await test.objects
      .create({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'open', namespace: 'sluice' },
        spec: { containers: [{ name: 'open', image: 'registry.example/house:1' }] },
      } as KubernetesObject)
      .catch((error: Error) => error);
    expect(String(open)).toContain('violates PodSecurity');
  });

  it('stays as it is when many workers apply it again', async () => {
    const version = imageVersion();
    await Promise.all([1, 2, 3, 4].map(() => applied(version).apply(ELASTIC)));
    await applied(version).apply(ELASTIC);
    const before = await Promise.all(
      [readDeployment, readHpa, readBudget, readService].map((get) => get(version)),
    );
    await applied(version).apply(ELASTIC);
    const after = await Promise.all(
      [readDeployment, readHpa, readBudget, readService].map((get) => get(version)),
    );
    const revisions = (objects: readonly (KubernetesObject | null)[]) =>
      objects.map((object) => object!.metadata!.resourceVersion);
    expect(revisions(after)).toEqual(revisions(before));
  });

  it('is scaled by CPU where there is no KEDA, between one replica and the maximum', async () => {
    const version = imageVersion();
    await applied(version).apply({ ...ELASTIC, minReplicas: 0, scaleDownMs: 120_000 });
    expect((await readHpa(version))!.spec).toMatchObject({
      minReplicas: 1,
      maxReplicas: 5,
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: objectName(version) },
      metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { averageUtilization: 70 } } }],
      behavior: { scaleDown: { stabilizationWindowSeconds: 120 } },
    });
    // A percentage is one of a request.
    expect((await readDeployment(version))!.spec!.template.spec!.containers[0]!.resources!.requests).toEqual({
      cpu: '1',
    });
  });

  it('leaves the number of replicas to the autoscaler, through updates, and takes it back when it is fixed', async () => {
    const version = imageVersion();
    const objects = applied(version);
    await objects.apply(ELASTIC);
    expect((await readDeployment(version))!.spec!.replicas).toBe(1);
    await scale(version, 4, 'kube-controller-manager');
    await objects.apply({ ...ELASTIC, maxReplicas: 9 });
    expect((await readDeployment(version))!.spec!.replicas).toBe(4);
    expect((await readHpa(version))!.spec!.maxReplicas).toBe(9);
    await objects.apply({ ...FIXED, minReplicas: 3, maxReplicas: 3 });
    expect((await readDeployment(version))!.spec!.replicas).toBe(3);
    expect(await readHpa(version)).toBeNull();
    // And over again: nobody counts for a moment, and the number stays.
    await objects.apply(ELASTIC);
    expect((await readDeployment(version))!.spec!.replicas).toBe(3);
  });

  it('says which fields another manager has set, changes nothing, and overwrites them only when it is told to', async () => {
    const version = imageVersion();
    await applied(version).apply(FIXED);
    await test.applyAs(
      {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: objectName(version), namespace: 'sluice' },
        spec: { template: { spec: { terminationGracePeriodSeconds: 7 } } },
      } as KubernetesObject,
      'somebody',
      true,
    );
    await expect(applied(version).apply(FIXED)).rejects.toThrow(
      /another field manager has set \.spec\.template\.spec\.terminationGracePeriodSeconds \(conflict with "somebody".*--kubernetes-force yes/,
    );
    const grace = async () =>
      (await readDeployment(version))!.spec!.template.spec!.terminationGracePeriodSeconds;
    expect(await grace()).toBe(7);
    await applied(version, { force: true }).apply(FIXED);
    expect(await grace()).toBe(95);
  });

  it('says so when a person has scaled a fixed number', async () => {
    const version = imageVersion();
    await applied(version).apply(FIXED);
    await scale(version, 6, 'kubectl');
    await expect(applied(version).apply(FIXED)).rejects.toThrow(
      /conflict with "kubectl".*\.spec\.replicas|\.spec\.replicas.*"kubectl"/,
    );
    expect((await readDeployment(version))!.spec!.replicas).toBe(6);
  });

  it('does not touch what it did not make', async () => {
    const version = imageVersion();
    const name = objectName(version);
    await test.applyAs(
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace: 'sluice' },
        spec: { ports: [{ port: 1 }] },
      } as KubernetesObject,
      'somebody',
    );
    await expect(applied(version).apply(FIXED)).rejects.toThrow(
      new RegExp(`Service ${name} in sluice is there already, and not Sluice's`),
    );
    expect(await readDeployment(version)).toBeNull();
    await applied(version).remove();
    expect(await readService(version)).not.toBeNull();
  });

  it('is taken away whole, twice without harm, and nothing else with it', async () => {
    const [version, other] = [imageVersion(), imageVersion()];
    await applied(version).apply(ELASTIC);
    await applied(other).apply(ELASTIC);
    await Promise.all([applied(version).remove(), applied(version).remove()]);
    await applied(version).remove();
    for (const get of [readDeployment, readHpa, readBudget, readService]) {
      expect(await get(version)).toBeNull();
      expect(await get(other)).not.toBeNull();
    }
  });

  it('has names that a cluster takes, however long the group is called', async () => {
    const version = imageVersion({ name: `model.${'Very_Long.Name-'.repeat(8)}x` });
    await applied(version).apply(ELASTIC);
    const deployment = (await readDeployment(version))!;
    expect(deployment.metadata!.name!.length).toBeLessThanOrEqual(46);
    expect(deployment.metadata!.annotations!['sluice/function']).toBe(version.spec.name);
    const pod = await test.addPod(deployment);
    expect(pod.metadata!.name!.length).toBeLessThanOrEqual(63);
  });
});

describe('what cannot be applied', () => {
  it('names the right that is missing, and where it stands', async () => {
    const stranger = new Cluster(loadKubeConfig(test.kubeconfig('stranger')));
    const objects = new AppliedObjects(stranger, OPTIONS, imageVersion());
    await expect(objects.apply(FIXED)).rejects.toThrow(
      /User "stranger" cannot get resource .*give the service account the rights of deploy\/kubernetes\/rbac\.yaml/,
    );
  });

  it('names the namespace that is not there', async () => {
    await expect(applied(imageVersion(), { namespace: 'nowhere' }).apply(FIXED)).rejects.toThrow(/nowhere/);
  });

  it('names the address that nobody listens at', async () => {
    const nobody = new Cluster(loadKubeConfig(test.kubeconfig('worker', 1)));
    await expect(new AppliedObjects(nobody, OPTIONS, imageVersion()).apply(FIXED)).rejects.toThrow(
      /the Kubernetes API at https:\/\/127\.0\.0\.1:1 is not reached: .*ECONNREFUSED|bad port/,
    );
  });

  it('names what the API server finds wrong', async () => {
    const version = imageVersion({
      environment: { base: null, steps: [], env: {}, isolated: false, interpreter: null },
      container: { ...CONTAINER, port: 99_999 },
    });
    await expect(applied(version).apply(FIXED)).rejects.toThrow(/Deployment .* cannot be applied: .*99999/);
  });
});

describe('with KEDA', () => {
  it('is scaled by its queue, from the moment that KEDA is there, with one autoscaler at a time', async () => {
    const version = imageVersion({ batching: { sizeRows: 100, durationMs: 5, bytesMax: 2 ** 20 } });
    const scaling = { ...ELASTIC, minReplicas: 0, targetWaitMs: 5000 };
    await applied(version).apply(scaling);
    expect(await readHpa(version)).not.toBeNull();
    expect(KEDA_CRD).not.toBe('');
    await test.applyKeda();
    const withKeda = new Cluster(loadKubeConfig(test.kubeconfig('worker')));
    const objects = new AppliedObjects(withKeda, OPTIONS, version);
    await objects.apply(scaling);
    expect(await readHpa(version)).toBeNull();
    const found = (await read<KubernetesObject & { spec: object }>(
      version,
      'keda.sh/v1alpha1',
      'ScaledObject',
    ))!;
    const queue = (state: string) => `sluice_queue_rows{function="model.house-price",state="${state}"}`;
    const trigger = (name: string, valueLocation: string) => ({
      type: 'metrics-api',
      name,
      metadata: { url: OPTIONS.metrics, format: 'prometheus', valueLocation, targetValue: '1' },
    });
    // Whole and nothing dropped: the definition of KEDA's kind knows each of these fields.
    expect(found.spec).toEqual({
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: objectName(version) },
      minReplicaCount: 0,
      maxReplicaCount: 5,
      pollingInterval: 5,
      cooldownPeriod: 60,
      advanced: {
        horizontalPodAutoscalerConfig: { behavior: { scaleDown: { stabilizationWindowSeconds: 300 } } },
        scalingModifiers: {
          formula: 'max(ceil((waiting + sealed) / 200), oldest > 5000 ? ready + 1 : 0.0)',
          target: '1',
          activationTarget: '0',
          metricType: 'AverageValue',
        },
      },
      triggers: [
        trigger('waiting', queue('waiting')),
        trigger('sealed', queue('sealed')),
        trigger('oldest', 'sluice_queue_oldest_ms{function="model.house-price"}'),
        trigger('ready', 'sluice_replicas{function="model.house-price",state="ready"}'),
        { type: 'cpu', metricType: 'Utilization', metadata: { value: '70' } },
      ],
    });
    await objects.apply({ ...scaling, maxReplicas: 7 });
    const updated = (await read<typeof found>(version, 'keda.sh/v1alpha1', 'ScaledObject'))!;
    expect(updated.spec).toMatchObject({ maxReplicaCount: 7 });
    await objects.apply(FIXED);
    expect(await read(version, 'keda.sh/v1alpha1', 'ScaledObject')).toBeNull();
    await objects.apply(scaling);
    await objects.remove();
    expect(await read(version, 'keda.sh/v1alpha1', 'ScaledObject')).toBeNull();
  });
});

describe('deploy/kubernetes', () => {
  it('is taken by the API server as it stands', async () => {
    const objects = await test.applyDeploy('namespace.yaml', 'rbac.yaml', 'settings.yaml', 'sluice.yaml');
    expect(objects.filter(({ kind }) => kind === 'Deployment').map(({ metadata }) => metadata!.name)).toEqual(
      ['sluice-ingress', 'sluice-buffer', 'sluice-worker'],
    );
    for (const object of objects.filter(({ kind }) => kind === 'Deployment'))
      await test.addPod((await test.objects.read(object as never)) as V1Deployment);
  });
});

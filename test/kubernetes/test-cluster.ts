/**
 * A real etcd and kube-apiserver on free loopback ports, with RBAC. No kubelet, scheduler or controller runs: a test makes the
 * pods that a Deployment would, and says of them what a kubelet would say.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type ApiException,
  AppsV1Api,
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  loadAllYaml,
  PatchStrategy,
  type V1Deployment,
  type V1Pod,
  type V1PodStatus,
} from '@kubernetes/client-node';
import { expect, vi } from 'vitest';
import { freePort } from '../support/free-port.ts';

const APISERVER = process.env.SLUICE_TEST_APISERVER;
const ETCD = process.env.SLUICE_TEST_ETCD;
export const KEDA_CRD = process.env.SLUICE_TEST_KEDA ?? '';

const ADMIN = 'the-admin';
const WORKER = 'the-worker';
const STRANGER = 'the-stranger';
const DEPLOY = path.resolve(import.meta.dirname, '../../deploy/kubernetes');

/** Looks again and again: what a server of another make does is told by no signal of ours. */
export const eventually = <T>(look: () => Promise<T> | T, timeout = 60_000): Promise<T> =>
  vi.waitFor(look, { timeout, interval: 50 });

const isTrue = async (look: () => Promise<boolean>): Promise<void> => {
  if (!(await look())) throw new Error('not yet');
};

export class TestCluster {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'sluice-kubernetes-'));
  port: number;
  readonly #etcdPort: number;
  #etcd: ChildProcess | null = null;
  #server: ChildProcess | null = null;

  private constructor(port: number, etcdPort: number) {
    this.port = port;
    this.#etcdPort = etcdPort;
  }

  static async start(): Promise<TestCluster> {
    if (APISERVER === undefined || ETCD === undefined) throw new Error('run scripts/test-kubernetes.sh');
    const cluster = new TestCluster(await freePort(), await freePort());
    await cluster.#startEtcd();
    cluster.#writeIdentities();
    await cluster.startServer();
    return cluster;
  }

  async #startEtcd(): Promise<void> {
    const url = `http://127.0.0.1:${this.#etcdPort}`;
    const peer = `http://127.0.0.1:${await freePort()}`;
    this.#etcd = spawn(
      ETCD!,
      [
        ...['--data-dir', path.join(this.directory, 'etcd'), '--listen-client-urls', url],
        ...['--advertise-client-urls', url, '--listen-peer-urls', peer],
        ...[
          '--initial-advertise-peer-urls',
          peer,
          '--initial-cluster',
          `default=${peer}`,
          '--unsafe-no-fsync',
        ],
      ],
      { stdio: 'ignore' },
    );
    await eventually(() => isTrue(async () => (await fetch(`${url}/health`)).ok));
  }

  #writeIdentities(): void {
    const account = 'system:serviceaccount:sluice:sluice-worker';
    const groups = '"system:serviceaccounts,system:serviceaccounts:sluice"';
    this.#write(
      'tokens.csv',
      [
        `${ADMIN},admin,1,"system:masters"`,
        `${WORKER},${account},2,${groups}`,
        `${STRANGER},stranger,3`,
      ].join('\n'),
    );
    // Any RSA key will do for tokens that nobody asks for.
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    this.#write('account.pem', privateKey.export({ type: 'pkcs1', format: 'pem' }) as string);
  }

  #write(name: string, text: string): string {
    const file = path.join(this.directory, name);
    writeFileSync(file, text);
    return file;
  }

  async startServer(): Promise<void> {
    const at = (name: string): string => path.join(this.directory, name);
    this.#server = spawn(
      APISERVER!,
      [
        ...['--etcd-servers', `http://127.0.0.1:${this.#etcdPort}`, '--secure-port', String(this.port)],
        ...[
          '--bind-address',
          '127.0.0.1',
          '--cert-dir',
          at('certificates'),
          '--token-auth-file',
          at('tokens.csv'),
        ],
        ...[
          '--service-account-issuer',
          'https://kubernetes.default.svc',
          '--service-account-key-file',
          at('account.pem'),
        ],
        ...[
          '--service-account-signing-key-file',
          at('account.pem'),
          '--service-cluster-ip-range',
          '10.0.0.0/24',
        ],
        // The controller that makes each namespace's default account does not run.
        ...['--authorization-mode', 'RBAC', '--disable-admission-plugins', 'ServiceAccount'],
        ...['--kubelet-preferred-address-types', 'InternalIP', '--shutdown-delay-duration', '0s'],
      ],
      {
        stdio: [
          'ignore',
          'ignore',
          process.env.SLUICE_TEST_APISERVER_LOG === undefined ? 'ignore' : 'inherit',
        ],
      },
    );
    const core = this.config(ADMIN).makeApiClient(CoreV1Api);
    await eventually(() => isTrue(async () => (await core.listNamespace()).items.length > 0));
    // Its own roles are made after it answers: that which lets everybody see the kinds is among the first.
    const objects = KubernetesObjectApi.makeApiClient(this.config(STRANGER));
    await eventually(() =>
      objects
        .read({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } })
        .catch((error: ApiException<string>) => expect(error.message).toContain('cannot get resource')),
    );
  }

  /** At once, as a machine that loses its power. */
  async killServer(): Promise<void> {
    const server = this.#server!;
    server.kill('SIGKILL');
    await once(server, 'exit');
  }

  /** Does something to the cluster through a server at another address, where nobody who watches is connected. */
  async elsewhere(work: () => Promise<void>): Promise<void> {
    const { port } = this;
    this.port = await freePort();
    await this.startServer();
    await work();
    await this.killServer();
    this.port = port;
  }

  async stop(): Promise<void> {
    for (const child of [this.#server, this.#etcd]) {
      if (child === null || child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  config(token: string, port = this.port): KubeConfig {
    const config = new KubeConfig();
    config.loadFromClusterAndUser(
      { name: 'test', server: `https://127.0.0.1:${port}`, skipTLSVerify: true },
      { name: 'test', token },
    );
    return config;
  }

  /** A kubeconfig file, as --kubernetes-config takes it. */
  kubeconfig(who: 'worker' | 'stranger', port = this.port): string {
    const config = this.config(who === 'worker' ? WORKER : STRANGER, port);
    return this.#write(`config-${who}-${port}.json`, config.exportConfig());
  }

  get core(): CoreV1Api {
    return this.config(ADMIN).makeApiClient(CoreV1Api);
  }

  get apps(): AppsV1Api {
    return this.config(ADMIN).makeApiClient(AppsV1Api);
  }

  get objects(): KubernetesObjectApi {
    return KubernetesObjectApi.makeApiClient(this.config(ADMIN));
  }

  applyAs<T extends KubernetesObject>(object: T, manager: string, force = false): Promise<T> {
    return this.objects.patch(object, undefined, undefined, manager, force, PatchStrategy.ServerSideApply);
  }

  /** The files of deploy/kubernetes, of which the rights are the point. */
  async applyDeploy(...files: string[]): Promise<KubernetesObject[]> {
    const objects = files.flatMap((file) =>
      loadAllYaml(readFileSync(path.join(DEPLOY, file), 'utf8')),
    ) as KubernetesObject[];
    for (const object of objects) await this.applyAs(object, 'operator');
    return objects;
  }

  /** Answers when the cluster has the kind. */
  async applyKeda(): Promise<void> {
    const definition = loadAllYaml(readFileSync(KEDA_CRD, 'utf8')) as KubernetesObject[];
    for (const object of definition) await this.applyAs(object, 'operator');
    await eventually(() => this.objects.list('keda.sh/v1alpha1', 'ScaledObject', 'sluice'));
  }

  /** A kind in the place of the aggregated API that a metrics server brings: the same paths, the same shapes. */
  async serveMetrics(): Promise<void> {
    const group = 'metrics.k8s.io';
    await this.applyAs(
      {
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: {
          name: `pods.${group}`,
          annotations: { 'api-approved.kubernetes.io': 'unapproved, for a test' },
        },
        spec: {
          group,
          scope: 'Namespaced',
          names: { plural: 'pods', singular: 'pod', kind: 'PodMetrics', listKind: 'PodMetricsList' },
          versions: [
            {
              name: 'v1beta1',
              served: true,
              storage: true,
              schema: { openAPIV3Schema: { type: 'object', x_kubernetes_preserve_unknown_fields: true } },
            },
          ],
        },
      } as KubernetesObject,
      'operator',
    );
    await eventually(() => this.objects.list(`${group}/v1beta1`, 'PodMetrics', 'sluice'));
  }

  async measure(
    { metadata }: V1Pod,
    usage: { readonly cpu: string; readonly memory: string },
  ): Promise<void> {
    await this.config(ADMIN)
      .makeApiClient(CustomObjectsApi)
      .createNamespacedCustomObject({
        group: 'metrics.k8s.io',
        version: 'v1beta1',
        namespace: metadata!.namespace!,
        plural: 'pods',
        body: {
          apiVersion: 'metrics.k8s.io/v1beta1',
          kind: 'PodMetrics',
          metadata: { name: metadata!.name! },
          containers: [{ name: 'handler', usage }],
        },
      });
  }

  /** A pod as the Deployment's controller makes it. */
  async addPod(deployment: V1Deployment, node: string | null = 'node-1'): Promise<V1Pod> {
    const { template } = deployment.spec!;
    const namespace = deployment.metadata!.namespace!;
    const name = `${deployment.metadata!.name}-${randomBytes(5).toString('hex')}-${randomBytes(3).toString('hex').slice(0, 5)}`;
    const spec = { ...template.spec!, ...(node === null ? {} : { nodeName: node }) };
    return this.core.createNamespacedPod({
      namespace,
      body: { metadata: { name, labels: template.metadata!.labels! }, spec },
    });
  }

  /** What a kubelet says of it. */
  async setStatus(pod: V1Pod, status: V1PodStatus): Promise<void> {
    const { name, namespace } = pod.metadata!;
    const now = await this.core.readNamespacedPod({ name: name!, namespace: namespace! });
    await this.core.replaceNamespacedPodStatus({
      name: name!,
      namespace: namespace!,
      body: { ...now, status },
    });
  }

  /** One whose containers run, as they do in fact at the address. */
  async addReadyPod(deployment: V1Deployment, ip: string): Promise<V1Pod> {
    const pod = await this.addPod(deployment);
    const conditions = [{ type: 'Ready', status: 'True' }];
    await this.setStatus(pod, { phase: 'Running', conditions, podIP: ip, podIPs: [{ ip }] });
    return pod;
  }

  /** What a kubelet does last: the object goes. */
  async removePod(pod: V1Pod): Promise<void> {
    const { name, namespace } = pod.metadata!;
    await this.core.deleteNamespacedPod({ name: name!, namespace: namespace!, gracePeriodSeconds: 0 });
  }
}

/**
 * The back end whose replicas are pods. A cluster's autoscaler says how many there are; each worker follows it, and serves
 * its share of the pods over gRPC (docs/decisions/0013).
 */
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import type {
  Backend,
  BackendFactory,
  BackendOptions,
  Followed,
  HandlerInstance,
  LaunchRequest,
} from '../backend.ts';
import type { IgnoredOption } from '../honoured-options.ts';
import { Cluster, loadKubeConfig, namespaceOf } from './cluster.ts';
import { FollowedVersion } from './followed-version.ts';
import type { KubernetesOptions } from './options.ts';

export type { ClusterOptions, KubernetesOptions } from './options.ts';

class KubernetesBackend implements Backend {
  readonly #cluster: Cluster;
  readonly #options: KubernetesOptions;
  readonly #own: Pick<BackendOptions, 'log' | 'workerId'>;
  readonly #followed = new Map<number, FollowedVersion>();

  constructor(cluster: Cluster, options: KubernetesOptions, own: Pick<BackendOptions, 'log' | 'workerId'>) {
    this.#cluster = cluster;
    this.#options = options;
    this.#own = own;
  }

  /** Images bring their packages: nothing is installed in a pod. */
  ignored({ spec }: FunctionVersion): IgnoredOption[] {
    const packages = spec.environment.steps.map((step) => JSON.stringify(step)).join(', ');
    return packages === '' ? [] : [{ text: `${packages}: its image must have them`, isBinding: false }];
  }

  async launch(request: LaunchRequest): Promise<HandlerInstance> {
    const followed = this.#followed.get(request.version.id);
    if (!followed) throw new Error('this worker does not follow the version in the cluster');
    return followed.attach(request);
  }

  follow(
    version: FunctionVersion,
    scaling: Scaling,
    onReplicas: (replicas: number) => void,
    onFailure: (reason: string) => void,
  ): Followed {
    const { log, workerId } = this.#own;
    const followed = new FollowedVersion({
      cluster: this.#cluster,
      options: this.#options,
      workerId,
      log: log.child({ function: version.spec.name, version: version.digest }),
      version,
      scaling,
      onReplicas,
      onFailure,
      onEnd: () => {
        if (this.#followed.get(version.id) === followed) this.#followed.delete(version.id);
      },
    });
    this.#followed.set(version.id, followed);
    return followed;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#followed.values()].map((followed) => followed.end('keep')));
  }
}

/** Rejects when there is no cluster to talk to; whether it answers shows with the first version. */
export const makeKubernetesBackend =
  (options: KubernetesOptions): BackendFactory =>
  async ({ log, workerId }) => {
    const config = loadKubeConfig(options.kubeconfig);
    return new KubernetesBackend(
      new Cluster(config),
      { ...options, namespace: namespaceOf(config, options) },
      { log, workerId },
    );
  };

/**
 * Keeps what a version is in the cluster as it shall be: applied on the server's side by every worker alike, and taken away
 * whole. It changes nothing that Sluice did not make.
 */
import type { KubernetesObject, V1Deployment } from '@kubernetes/client-node';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import { autoscalerOf, firstReplicas, leastReplicas } from './autoscaling.ts';
import { type Cluster, ConflictError, type Reference } from './cluster.ts';
import { LABEL, objectName, REPLICAS_MANAGER, selectorLabels } from './names.ts';
import { KINDS, objectsOf } from './objects.ts';
import type { ClusterOptions } from './options.ts';

/** Whoever changes `spec.replicas` as an autoscaler of ours: with the autoscaler gone its number is ours again. */
const AUTOSCALERS = /^(kube-controller-manager|keda)/;

export class AppliedObjects {
  readonly #cluster: Cluster;
  readonly #options: ClusterOptions;
  readonly #version: FunctionVersion;

  /** `options.namespace` is the one to apply in. */
  constructor(cluster: Cluster, options: ClusterOptions, version: FunctionVersion) {
    this.#cluster = cluster;
    this.#options = options;
    this.#version = version;
  }

  /**
   * Idempotent. Answers what the cluster says is wrong with the version as a whole, such as a quota that forbids its pods.
   * @throws Error, ConflictError, ClusterError in words for a status answer
   */
  async apply(scaling: Scaling): Promise<string | null> {
    const { metrics, force } = this.#options;
    const autoscaler = autoscalerOf(scaling, { hasKeda: await this.#cluster.hasKeda(), metrics });
    const objects = objectsOf(this.#version, scaling, this.#options, autoscaler);
    const found = new Map<string, KubernetesObject | null>();
    for (const reference of this.#references()) found.set(reference.kind, await this.#readOwn(reference));
    // Before the new autoscaler comes: two of them on one Deployment undo each other's work.
    await this.#removeBut(new Set(objects.map(({ kind }) => kind ?? '')), found);
    const [deployment, ...others] = objects as [V1Deployment, ...KubernetesObject[]];
    const isNew = found.get('Deployment') === null;
    const replicas = isNew ? firstReplicas(scaling) : leastReplicas(scaling, autoscaler);
    const first = isNew ? { ...deployment, spec: { ...deployment.spec!, replicas } } : deployment;
    const applied = await this.#cluster.apply(first, undefined, force);
    if (isNew || autoscaler === 'none') await this.#setReplicas(replicas);
    for (const object of others) await this.#cluster.apply(object, undefined, force);
    return troubleOf(applied);
  }

  /** Deletes what is there of it and is Sluice's. */
  async remove(): Promise<void> {
    const found = new Map<string, KubernetesObject | null>();
    for (const reference of this.#references())
      found.set(reference.kind, await this.#cluster.read<KubernetesObject>(reference));
    await this.#removeBut(new Set(), found);
  }

  #references(): Reference[] {
    const metadata = { name: objectName(this.#version), namespace: this.#options.namespace };
    return KINDS.map((kind) => ({ ...kind, metadata }));
  }

  async #readOwn(reference: Reference): Promise<KubernetesObject | null> {
    const object = await this.#cluster.read<KubernetesObject>(reference);
    if (object !== null && !this.#isOwn(object))
      throw new Error(
        `${reference.kind} ${reference.metadata.name} in ${reference.metadata.namespace} is there already, and not Sluice's: delete it, or give another --kubernetes-namespace`,
      );
    return object;
  }

  #isOwn({ metadata }: KubernetesObject): boolean {
    return metadata?.labels?.[LABEL.version] === selectorLabels(this.#version)[LABEL.version];
  }

  async #removeBut(
    kept: ReadonlySet<string>,
    found: ReadonlyMap<string, KubernetesObject | null>,
  ): Promise<void> {
    for (const reference of this.#references()) {
      const object = found.get(reference.kind);
      if (kept.has(reference.kind) || !object || !this.#isOwn(object)) continue;
      await this.#cluster.remove(reference, object.metadata?.uid ?? '');
    }
  }

  async #setReplicas(replicas: number): Promise<void> {
    const object = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: objectName(this.#version), namespace: this.#options.namespace },
      spec: { replicas },
    };
    try {
      await this.#cluster.apply(object, REPLICAS_MANAGER, this.#options.force);
    } catch (error) {
      if (!(error instanceof ConflictError && error.managers.every((name) => AUTOSCALERS.test(name))))
        throw error;
      await this.#cluster.apply(object, REPLICAS_MANAGER, true);
    }
  }
}

/** Pods that cannot even be made, by the Deployment's own words; null when nothing is wrong. */
const troubleOf = ({ status }: V1Deployment): string | null => {
  const failed = status?.conditions?.find(
    (condition) => condition.type === 'ReplicaFailure' && condition.status === 'True',
  );
  return failed === undefined ? null : `pods cannot be made: ${failed.reason}: ${failed.message}`;
};

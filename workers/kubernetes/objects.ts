/** Everything that one function version is in a cluster, as it is applied. Pure: the same version gives the same objects. */
import type {
  KubernetesObject,
  V1Deployment,
  V1PodDisruptionBudget,
  V1Service,
} from '@kubernetes/client-node';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import { type Autoscaler, horizontalPodAutoscaler, scaledObject } from './autoscaling.ts';
import { ANNOTATION, objectLabels, objectName, selectorLabels } from './names.ts';
import type { ClusterOptions } from './options.ts';
import { containerOf, podTemplate, portName } from './pod-spec.ts';

/** Kinds that a version may have; what is not wanted of them is deleted. */
export const KINDS = [
  { apiVersion: 'autoscaling/v2', kind: 'HorizontalPodAutoscaler' },
  { apiVersion: 'keda.sh/v1alpha1', kind: 'ScaledObject' },
  { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget' },
  { apiVersion: 'v1', kind: 'Service' },
  { apiVersion: 'apps/v1', kind: 'Deployment' },
] as const;

/** A pod that has not become ready by then is a failure of the rollout: its start, and the time to place it. */
const PROGRESS_SECONDS = 1800;

const metadataOf = (version: FunctionVersion, namespace: string) => ({
  name: objectName(version),
  namespace,
  labels: { ...objectLabels(version) },
  annotations: {
    [ANNOTATION.function]: version.spec.name,
    ...(version.spec.model
      ? { [ANNOTATION.model]: `${version.spec.model.name}:${version.spec.model.version}` }
      : {}),
  },
});

/** Without the number of replicas, which has a field manager of its own. */
export const deployment = (
  version: FunctionVersion,
  options: ClusterOptions,
  autoscaler: Autoscaler,
): V1Deployment => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: metadataOf(version, options.namespace),
  spec: {
    selector: { matchLabels: { ...selectorLabels(version) } },
    // The template of a version changes with settings only; its replicas then go one after another.
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
    revisionHistoryLimit: 1,
    progressDeadlineSeconds: PROGRESS_SECONDS,
    template: podTemplate(version, options, autoscaler !== 'none'),
  },
});

/** Headless: every pod has a name of its own in the cluster's DNS, for people and for other clients. */
const service = (version: FunctionVersion, options: ClusterOptions): V1Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: metadataOf(version, options.namespace),
  spec: {
    clusterIP: 'None',
    selector: { ...selectorLabels(version) },
    ports: [
      {
        name: portName(version),
        port: containerOf(version).port,
        protocol: 'TCP',
        targetPort: portName(version),
      },
    ],
  },
});

/** One at a time leaves a node that is drained; a minimum would keep the node of a single replica for ever. */
const disruptionBudget = (version: FunctionVersion, options: ClusterOptions): V1PodDisruptionBudget => ({
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: metadataOf(version, options.namespace),
  spec: { maxUnavailable: 1, selector: { matchLabels: { ...selectorLabels(version) } } },
});

/**
 * In the order in which they are applied.
 * @throws Error that names what of the version, or of the settings, keeps it from running in a cluster
 */
export const objectsOf = (
  version: FunctionVersion,
  scaling: Scaling,
  options: ClusterOptions,
  autoscaler: Autoscaler,
): KubernetesObject[] => [
  deployment(version, options, autoscaler),
  service(version, options),
  disruptionBudget(version, options),
  ...(autoscaler === 'hpa' ? [horizontalPodAutoscaler(version, scaling, options.namespace)] : []),
  ...(autoscaler === 'keda' ? [scaledObject(version, scaling, options)] : []),
];

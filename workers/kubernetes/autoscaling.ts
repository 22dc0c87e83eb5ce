/**
 * Who counts a version's replicas in a cluster, and what that one is given. With KEDA it is the rule of
 * shared/domain/scaling.ts, from Sluice's own metrics; without it Kubernetes knows CPU alone.
 */
import type { KubernetesObject, V2HorizontalPodAutoscaler } from '@kubernetes/client-node';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import { objectLabels, objectName } from './names.ts';

export type Autoscaler = 'none' | 'hpa' | 'keda';

/** What decides the number: `none` where there is nothing to decide. */
export const autoscalerOf = (
  scaling: Scaling,
  { hasKeda, metrics }: { readonly hasKeda: boolean; readonly metrics: string },
): Autoscaler => {
  if (scaling.maxReplicas <= scaling.minReplicas) return 'none';
  return hasKeda && metrics !== '' ? 'keda' : 'hpa';
};

/** Kubernetes refuses an HPA below one replica unless an alpha feature is on. */
export const leastReplicas = (scaling: Scaling, autoscaler: Autoscaler): number =>
  autoscaler === 'hpa' ? Math.max(1, scaling.minReplicas) : scaling.minReplicas;

/** A version that starts shows that it can: it begins with one replica even where it may have none. */
export const firstReplicas = (scaling: Scaling): number =>
  Math.min(Math.max(1, scaling.minReplicas), Math.max(1, scaling.maxReplicas));

/** What the spec asks for and an HPA on CPU cannot give, in words; null when it gives all. */
export const lostWithoutKeda = (
  scaling: Scaling,
  cluster: { readonly hasKeda: boolean; readonly metrics: string },
): string | null => {
  if (autoscalerOf(scaling, cluster) !== 'hpa') return null;
  const lost = [
    'queued rows',
    ...(scaling.targetWaitMs === null ? [] : ["the oldest row's age"]),
    ...(scaling.minReplicas === 0 ? ['scaling to zero (one replica stays)'] : []),
  ].join(', ');
  const way = cluster.hasKeda
    ? 'give --kubernetes-metrics'
    : 'install KEDA in the cluster, and give --kubernetes-metrics';
  return `scaling by ${lost}: the cluster counts replicas by CPU (${cpuPercent(scaling)} %) alone; ${way}`;
};

/** Where the group names none. */
const CPU_PERCENT = 80;
/** Kubernetes' own bound. */
const WINDOW_SECONDS_MAX = 3600;

const cpuPercent = (scaling: Scaling): number =>
  Math.max(1, Math.round(scaling.targetCpuPercent ?? CPU_PERCENT));

const targetOf = (version: FunctionVersion) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  name: objectName(version),
});

const behaviorOf = ({ scaleDownMs }: Scaling) => ({
  scaleDown: { stabilizationWindowSeconds: Math.min(WINDOW_SECONDS_MAX, Math.round(scaleDownMs / 1000)) },
});

export const horizontalPodAutoscaler = (
  version: FunctionVersion,
  scaling: Scaling,
  namespace: string,
): V2HorizontalPodAutoscaler => ({
  apiVersion: 'autoscaling/v2',
  kind: 'HorizontalPodAutoscaler',
  metadata: { name: objectName(version), namespace, labels: { ...objectLabels(version) } },
  spec: {
    scaleTargetRef: targetOf(version),
    minReplicas: leastReplicas(scaling, 'hpa'),
    maxReplicas: scaling.maxReplicas,
    metrics: [
      {
        type: 'Resource',
        resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: cpuPercent(scaling) } },
      },
    ],
    behavior: behaviorOf(scaling),
  },
});

/** What of KEDA's `keda.sh/v1alpha1` ScaledObject is written here (its CRD, and the scaler `metrics-api` of 2.14). */
export type ScaledObject = KubernetesObject & {
  readonly spec: {
    readonly scaleTargetRef: { readonly apiVersion: string; readonly kind: string; readonly name: string };
    readonly minReplicaCount: number;
    readonly maxReplicaCount: number;
    readonly pollingInterval: number;
    readonly cooldownPeriod: number;
    readonly advanced: object;
    readonly triggers: readonly {
      readonly type: string;
      readonly name?: string;
      readonly metricType?: string;
      readonly metadata: Readonly<Record<string, string>>;
    }[];
  };
};

/** How often KEDA reads the metrics, which wakes a version that has no replica. */
const POLL_SECONDS = 5;
/** Where the batches have no size: as much as one batch then holds. */
const ROWS_PER_BATCH = 1000;

/** A trigger that reads one number of Sluice's /metrics; `targetValue` is needed and does not count: the formula does. */
const metricTrigger = (name: string, url: string, valueLocation: string) => ({
  type: 'metrics-api',
  name,
  metadata: { url, format: 'prometheus', valueLocation, targetValue: '1' },
});

/**
 * One formula, since the largest of several triggers is not their sum. `ceil` because KEDA counts in thousandths, where
 * one row of many thousands would be none. Every branch is a float, which KEDA insists on.
 */
const formulaOf = (version: FunctionVersion, { targetRows, targetWaitMs }: Scaling): string => {
  const perReplica = targetRows ?? 2 * (version.spec.batching.sizeRows ?? ROWS_PER_BATCH);
  const byRows = `ceil((waiting + sealed) / ${perReplica})`;
  return targetWaitMs === null ? byRows : `max(${byRows}, oldest > ${targetWaitMs} ? ready + 1 : 0.0)`;
};

export const scaledObject = (
  version: FunctionVersion,
  scaling: Scaling,
  { namespace, metrics }: { readonly namespace: string; readonly metrics: string },
): ScaledObject => {
  // Names of functions hold no quotes and no backslashes (shared/wire/spec.ts).
  const { name } = version.spec;
  const rows = (state: string): string => `sluice_queue_rows{function="${name}",state="${state}"}`;
  const byAge =
    scaling.targetWaitMs === null
      ? []
      : [
          metricTrigger('oldest', metrics, `sluice_queue_oldest_ms{function="${name}"}`),
          metricTrigger('ready', metrics, `sluice_replicas{function="${name}",state="ready"}`),
        ];
  const byCpu =
    scaling.targetCpuPercent === null
      ? []
      : [{ type: 'cpu', metricType: 'Utilization', metadata: { value: String(cpuPercent(scaling)) } }];
  return {
    apiVersion: 'keda.sh/v1alpha1',
    kind: 'ScaledObject',
    metadata: { name: objectName(version), namespace, labels: { ...objectLabels(version) } },
    spec: {
      scaleTargetRef: targetOf(version),
      minReplicaCount: scaling.minReplicas,
      maxReplicaCount: scaling.maxReplicas,
      pollingInterval: POLL_SECONDS,
      cooldownPeriod: Math.round(scaling.idleMs / 1000),
      advanced: {
        horizontalPodAutoscalerConfig: { behavior: behaviorOf(scaling) },
        scalingModifiers: {
          formula: formulaOf(version, scaling),
          target: '1',
          activationTarget: '0',
          metricType: 'AverageValue',
        },
      },
      triggers: [
        metricTrigger('waiting', metrics, rows('waiting')),
        metricTrigger('sealed', metrics, rows('sealed')),
        ...byAge,
        ...byCpu,
      ],
    },
  };
};

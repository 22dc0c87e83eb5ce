/** A version that serves an image, as models in a cluster do, and what an operator says of the cluster. */
import { createHash } from 'node:crypto';
import type { FunctionSpec, FunctionVersion } from '../../shared/domain/function.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import type { KubernetesOptions } from '../../workers/kubernetes/index.ts';
import { PLAIN_SPEC } from '../support/function-spec.ts';

export const CONTAINER = {
  image: { reference: 'registry.example/house:1' },
  entrypoint: null,
  port: 8080,
  handler: null,
  onStartup: null,
} as const;

let lastId = 0;

export const imageVersion = (overrides: Partial<FunctionSpec> = {}): FunctionVersion => {
  const spec: FunctionSpec = {
    ...PLAIN_SPEC,
    name: 'model.house-price',
    runtime: 'container',
    backend: 'kubernetes',
    container: CONTAINER,
    ...overrides,
  };
  lastId += 1;
  const digest = createHash('sha256')
    .update(JSON.stringify([spec, lastId]))
    .digest('hex')
    .slice(0, 12);
  return { id: lastId, digest, createdAt: 0, spec };
};

export const FIXED: Scaling = {
  minReplicas: 2,
  maxReplicas: 2,
  targetRows: null,
  targetWaitMs: null,
  targetCpuPercent: null,
  scaleDownMs: 300_000,
  idleMs: 60_000,
};

export const ELASTIC: Scaling = { ...FIXED, minReplicas: 1, maxReplicas: 5, targetCpuPercent: 70 };

export const OPTIONS: KubernetesOptions = {
  namespace: 'sluice',
  kubeconfig: '',
  image: 'registry.example/sluice:1',
  address: 'http://sluice.sluice.svc:7700',
  secret: 'sluice-artifacts',
  pullSecret: '',
  gpuLabel: 'cloud.google.com/gke-accelerator',
  metrics: 'http://sluice-metrics.sluice.svc:7701/metrics',
  podSecurity: 'restricted',
  force: false,
  peers: async () => [],
};

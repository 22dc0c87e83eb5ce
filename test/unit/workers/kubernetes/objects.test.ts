/** What a version is in a cluster, as far as no cluster is needed to say it. */
import type { V1Container } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { autoscalerOf, firstReplicas, lostWithoutKeda } from '../../../../workers/kubernetes/autoscaling.ts';
import { gpuOf, gpuPlacement } from '../../../../workers/kubernetes/gpu.ts';
import type { ClusterOptions } from '../../../../workers/kubernetes/index.ts';
import { objectName, selectorLabels } from '../../../../workers/kubernetes/names.ts';
import { objectsOf } from '../../../../workers/kubernetes/objects.ts';
import { podShare } from '../../../../workers/kubernetes/pod-share.ts';
import { podTemplate } from '../../../../workers/kubernetes/pod-spec.ts';
import { PodUsage, quantityOf } from '../../../../workers/kubernetes/pod-usage.ts';
import { CONTAINER, ELASTIC, FIXED, imageVersion, OPTIONS } from '../../../kubernetes/image-version.ts';

const template = (overrides: Parameters<typeof imageVersion>[0], options: Partial<ClusterOptions> = {}) =>
  podTemplate(imageVersion(overrides), { ...OPTIONS, ...options }, false).spec!;

const MODEL = {
  name: 'house',
  version: 3,
  files: [{ path: 'm.skops', digest: `sha256:${'a'.repeat(64)}`, bytes: 100 }],
  loader: null,
};

describe('names', () => {
  const DNS_LABEL = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;

  it.each(['model.a', 'f', 'model.UPPER_lower.1', `model.${'x'.repeat(120)}`, 'model.-._-', 'model.a-'])(
    'are DNS labels with room for a pod: %s',
    (name) => {
      const version = imageVersion({ name });
      expect(objectName(version)).toMatch(DNS_LABEL);
      expect(objectName(version).length).toBeLessThanOrEqual(46);
      for (const value of Object.values(selectorLabels(version)))
        expect(value).toMatch(/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/);
    },
  );

  it('tell versions, and functions of alike names, apart', () => {
    const names = ['model.a.b', 'model.a-b', 'model.a_b'].map((name) => objectName(imageVersion({ name })));
    expect(new Set(names).size).toBe(3);
  });
});

describe('a pod', () => {
  it('runs the image as it is when that is what the version says', () => {
    const pod = template({});
    expect(pod.initContainers).toBeUndefined();
    expect(pod.containers[0]).not.toHaveProperty('command');
    expect(
      template({ container: { ...CONTAINER, entrypoint: ['serve', '--fast'] } }).containers[0]!.command,
    ).toEqual(['serve', '--fast']);
  });

  const argsOf = (container: V1Container): string => container.args!.join(' ');

  it('gets its files, our entrypoint, and the class that it serves from the init container', () => {
    const files = template({ model: MODEL });
    expect(argsOf(files.initContainers![0]!)).toMatch(
      /^--address http:\/\/sluice\.sluice\.svc:7700 --model house --version 3 --list sha256:\w{64} --key-file \/run\/sluice\/key --into \/app\/artifacts$/,
    );
    const handler = template({ container: { ...CONTAINER, handler: 'm.h' } });
    expect(argsOf(handler.initContainers![0]!)).toBe('--home /opt/sluice --entrypoint');
    expect(argsOf(handler.containers[0]!)).toContain('--handler m.h --host 0.0.0.0 --port 8080 --grace 60');
    const served = template({ model: { ...MODEL, files: [] }, source: [{ path: 'm.py', content: 'eA==' }] });
    expect(argsOf(served.initContainers![0]!)).toMatch(
      /--model house --version 3 --list .* --home \/opt\/sluice --entrypoint --output {"type":"int64"/,
    );
    expect(argsOf(served.containers[0]!)).toContain('--model-directory /opt/sluice');
  });

  it('keeps to the user and the root that an image needs when the operator says so', () => {
    const pod = template({}, { podSecurity: 'image' });
    expect(pod.securityContext).not.toHaveProperty('runAsUser');
    expect(pod.containers[0]!.securityContext).toMatchObject({
      readOnlyRootFilesystem: false,
      capabilities: { drop: ['ALL'] },
    });
  });

  it.each([
    [{ runtime: 'python', container: null }, {}, /an image that a registry holds \(model_image=/],
    [
      { container: { ...CONTAINER, image: { containerfile: 'FROM x', context: [] } } },
      {},
      /build and push it/,
    ],
    [{ model: MODEL }, { image: '' }, /give --kubernetes-image/],
    [{ model: MODEL }, { address: '' }, /give --kubernetes-address/],
  ] as const)('is refused with the way out: %j', (overrides, options, reason) => {
    expect(() => template(overrides, options)).toThrow(reason);
  });
});

describe('GPU strings', () => {
  it('are a type and a count', () => {
    expect(gpuOf('nvidia-l4')).toEqual({ type: 'nvidia-l4', count: 1 });
    expect(gpuOf('nvidia-tesla-t4:4')).toEqual({ type: 'nvidia-tesla-t4', count: 4 });
  });

  it.each(['', ':2', 'l4:0', 'l4:17', 'l4:-1', 'l4:1.5', 'l4:1:1', 'l 4', 'l4:'])(
    'are refused: %j',
    (text) => {
      expect(() => gpuOf(text)).toThrow(`gpu=${JSON.stringify(text)} is no type and count`);
    },
  );

  it('choose nodes by the label of the operator, and none where any device will do', () => {
    expect(gpuPlacement('l4:2', 'gpu/product')).toMatchObject({
      limits: { 'nvidia.com/gpu': '2' },
      nodeSelector: { 'gpu/product': 'l4' },
    });
    expect(gpuPlacement('any', 'gpu/product').nodeSelector).toEqual({});
    expect(gpuPlacement('l4', '').nodeSelector).toEqual({});
  });
});

describe('who counts replicas', () => {
  const METRICS = 'http://metrics/metrics';

  it('is nobody, KEDA, or an HPA', () => {
    expect(autoscalerOf(FIXED, { hasKeda: true, metrics: METRICS })).toBe('none');
    expect(autoscalerOf(ELASTIC, { hasKeda: true, metrics: METRICS })).toBe('keda');
    expect(autoscalerOf(ELASTIC, { hasKeda: true, metrics: '' })).toBe('hpa');
    expect(autoscalerOf(ELASTIC, { hasKeda: false, metrics: METRICS })).toBe('hpa');
  });

  it('says what an HPA cannot give', () => {
    const scaling = { ...ELASTIC, minReplicas: 0, targetWaitMs: 100, targetCpuPercent: null };
    expect(lostWithoutKeda(scaling, { hasKeda: false, metrics: METRICS })).toBe(
      "scaling by queued rows, the oldest row's age, scaling to zero (one replica stays): the cluster counts replicas by CPU (80 %) alone; install KEDA in the cluster, and give --kubernetes-metrics",
    );
    expect(lostWithoutKeda(FIXED, { hasKeda: false, metrics: '' })).toBeNull();
  });

  it('begins with one replica even where none may be', () => {
    expect(firstReplicas({ ...ELASTIC, minReplicas: 0 })).toBe(1);
    expect(firstReplicas({ ...ELASTIC, minReplicas: 3 })).toBe(3);
  });

  it('is given every object once, in one order', () => {
    const kinds = (autoscaler: 'none' | 'hpa' | 'keda') =>
      objectsOf(imageVersion(), ELASTIC, OPTIONS, autoscaler).map(({ kind }) => kind);
    const always = ['Deployment', 'Service', 'PodDisruptionBudget'];
    expect(kinds('none')).toEqual(always);
    expect(kinds('hpa')).toEqual([...always, 'HorizontalPodAutoscaler']);
    expect(kinds('keda')).toEqual([...always, 'ScaledObject']);
  });
});

describe('the share of a worker', () => {
  const pods = Array.from({ length: 200 }, (_, i) => `uid-${i}`);
  const workers = ['a', 'b', 'c', 'd'];

  it('is disjoint from the others, and together they are all', () => {
    const shares = workers.map((worker) => podShare(pods, worker, workers));
    expect(shares.reduce((sum, { size }) => sum + size, 0)).toBe(200);
    expect(new Set(shares.flatMap((share) => [...share])).size).toBe(200);
    for (const share of shares) expect(share.size).toBeGreaterThan(20);
  });

  it('moves the pods of a worker that goes, and no others', () => {
    const left = workers.filter((worker) => worker !== 'b');
    for (const worker of left) {
      const before = podShare(pods, worker, workers);
      const after = podShare(pods, worker, left);
      for (const pod of before) expect(after.has(pod)).toBe(true);
    }
  });

  it('is everything for one that is not in the list yet and finds nobody', () => {
    expect(podShare(pods, 'new', []).size).toBe(200);
  });
});

describe('usage', () => {
  it.each([
    ['250m', 0.25],
    ['12345678n', 0.012345678],
    ['2', 2],
    ['128Mi', 2 ** 27],
    ['1G', 1e9],
    ['', null],
    ['x', null],
    ['1Q', null],
  ])('reads the quantity %s', (text, value) => {
    expect(quantityOf(text)).toBe(value);
  });

  it('sums what a rate comes to, and is unknown where nobody measures', async () => {
    let now = 0;
    const found = { containers: [{ name: 'handler', usage: { cpu: '500m', memory: '1Mi' } }] };
    const usage = new PodUsage(
      async () => found as never,
      () => now,
    );
    now = 10_000;
    expect(await usage.read()).toEqual({ cpuMs: 5000, memoryBytes: 2 ** 20 });
    now = 20_000;
    expect(await usage.read()).toEqual({ cpuMs: 10_000, memoryBytes: 2 ** 20 });
    expect(await new PodUsage(async () => null).read()).toBeNull();
    expect(await new PodUsage(async () => ({}) as never).read()).toBeNull();
  });
});

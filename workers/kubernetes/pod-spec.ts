/** A replica's pod: the model's image with its files put in place by an init container before it starts. */
import type {
  V1Container,
  V1EnvVar,
  V1PodSpec,
  V1PodTemplateSpec,
  V1SecurityContext,
  V1Volume,
  V1VolumeMount,
} from '@kubernetes/client-node';
import type { EngineSpec } from '../../shared/domain/engine.ts';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { ContainerSpec } from '../../shared/domain/model.ts';
import { engineArgs, engineCommand, engineVariables, MODEL_MOUNT } from '../http/engine-variables.ts';
import { type Served, servedOf } from '../served.ts';
import { listDigest } from './file-list.ts';
import { gpuPlacement } from './gpu.ts';
import { ANNOTATION, objectLabels } from './names.ts';
import type { ClusterOptions } from './options.ts';

export const HANDLER = 'handler';
const INIT = 'files';
/** Where images find a model's files. */
const ARTIFACTS_PATH = '/app/artifacts';
/** Where our entrypoint is put into images that lack it, with the source of a class that it is to serve. */
const HOME_PATH = '/opt/sluice';
const SECRET_PATH = '/run/sluice';

const PORT_VARIABLES = ['PORT', 'CHALK_REMOTE_CALL_PORT', 'SLUICE_REMOTE_CALL_PORT'];

/** The user of our own image; any number but 0 will do. */
const USER = 10_001;
/** A pod that is going away still gets connections until every worker has seen it leave. */
const LEAVE_SECONDS = 5;
/** What the handler's own end may take after its last batch. */
const END_SECONDS = 30;
/** Loading a large model takes minutes; it is the longest start of a replica in every back end. */
const START_SECONDS_MAX = 900;
const PROBE_SECONDS = 5;

/** @throws Error that names what the version lacks and the way out */
export const containerOf = ({ spec }: FunctionVersion): ContainerSpec & { readonly reference: string } => {
  const { container, engine } = spec;
  if (engine) return engineContainer(engine);
  if (spec.runtime !== 'container' || !container)
    throw new Error(
      `runtime="${spec.runtime}" without an image cannot run in a cluster, which starts pods from images: register the version with an image that a registry holds (model_image="registry/name:tag"), or deploy with backend="container"`,
    );
  if (!('reference' in container.image))
    throw new Error(
      'image is a Containerfile, and a cluster pulls images from a registry: build and push it, then register the version with model_image="registry/name:tag"',
    );
  return { ...container, reference: container.image.reference };
};

const engineContainer = (engine: EngineSpec): ContainerSpec & { readonly reference: string } => {
  const { name, version, image: reference, port } = engine;
  if (reference === null)
    throw new Error(
      `the engine ${name} ${version} has no image for these resources, and a cluster starts pods from images: register one with container_image_cpu or container_image_gpu, or deploy with backend="process"`,
    );
  return {
    image: { reference },
    entrypoint: engineCommand(engine, port),
    port,
    handler: null,
    onStartup: null,
    reference,
  };
};

/** What its port is called, and thereby what is spoken there. */
export const portName = ({ spec }: FunctionVersion): 'http' | 'grpc' => (spec.engine ? 'http' : 'grpc');

/** Where its image looks for the model's files. */
const filesPath = ({ spec }: FunctionVersion): string => (spec.engine ? MODEL_MOUNT : ARTIFACTS_PATH);

/** The files that the init container fetches. */
const modelFiles = ({ spec }: FunctionVersion) => spec.model?.files ?? [];

const needsInit = (version: FunctionVersion): boolean =>
  modelFiles(version).length > 0 || servedOf(version.spec) !== 'image';

/** @throws Error that names the setting that is missing */
const checkInit = (version: FunctionVersion, container: ContainerSpec, options: ClusterOptions): void => {
  if (!needsInit(version)) return;
  const isFetched = modelFiles(version).length > 0 || servedOf(version.spec) === 'class';
  const why = isFetched ? 'model files' : `the entrypoint for handler=${JSON.stringify(container.handler)}`;
  if (options.image === '')
    throw new Error(
      `${why} come into pods by an init container of Sluice's own image; give --kubernetes-image`,
    );
  if (isFetched && options.address === '')
    throw new Error(
      'model files are fetched from Sluice; give --kubernetes-address, where pods reach its API',
    );
};

const hardened = (options: ClusterOptions): V1SecurityContext => ({
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'] },
  readOnlyRootFilesystem: options.podSecurity === 'restricted',
});

const emptyDir = (name: string, bytes?: number): V1Volume => ({
  name,
  emptyDir: bytes === undefined ? {} : { sizeLimit: String(bytes) },
});

const volumesOf = (version: FunctionVersion, options: ClusterOptions): V1Volume[] => {
  const volumes = [emptyDir('tmp')];
  const files = modelFiles(version);
  if (files.length > 0) {
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    // Files count in whole blocks, and a limit that is passed evicts the pod.
    volumes.push(emptyDir('artifacts', Math.ceil(bytes * 1.05) + files.length * 8192 + 2 ** 20));
  }
  // The package, and as much source as a version may have.
  if (servedOf(version.spec) !== 'image') volumes.push(emptyDir('home', 256 * 2 ** 20));
  if (needsInit(version) && options.secret !== '')
    volumes.push({
      name: 'key',
      secret: { secretName: options.secret, items: [{ key: 'key', path: 'key' }], defaultMode: 0o440 },
    });
  return volumes;
};

/** What the init container is told to do, and where it does it. */
const initWork = (version: FunctionVersion, options: ClusterOptions) => {
  const { model, source, output } = version.spec;
  const files = modelFiles(version);
  const served = servedOf(version.spec);
  const mounts: V1VolumeMount[] = [{ name: 'tmp', mountPath: '/tmp' }];
  const args: string[] = [];
  if (model && (files.length > 0 || served === 'class')) {
    args.push('--address', options.address, '--model', model.name, '--version', String(model.version));
    args.push('--list', listDigest(files, served === 'class' ? source : []));
    if (options.secret !== '') {
      mounts.push({ name: 'key', mountPath: SECRET_PATH, readOnly: true });
      args.push('--key-file', `${SECRET_PATH}/key`);
    }
  }
  if (files.length > 0) {
    mounts.push({ name: 'artifacts', mountPath: filesPath(version) });
    args.push('--into', filesPath(version));
  }
  if (served !== 'image') {
    mounts.push({ name: 'home', mountPath: HOME_PATH });
    args.push('--home', HOME_PATH, '--entrypoint');
  }
  if (served === 'class') args.push('--output', JSON.stringify(output));
  return { mounts, args };
};

const initContainer = (version: FunctionVersion, options: ClusterOptions): V1Container => {
  const { mounts, args } = initWork(version, options);
  return {
    name: INIT,
    image: options.image,
    command: ['node', '/app/workers/kubernetes/init-container.ts'],
    args,
    volumeMounts: mounts,
    resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '512Mi' } },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    securityContext: { ...hardened(options), runAsNonRoot: true, runAsUser: USER },
  };
};

/** Our entrypoint in front of what the image has: its own Python, and its own packages after ours. */
const entrypointCommand = (
  { spec }: FunctionVersion,
  { handler, onStartup, port }: ContainerSpec,
  served: Served,
): Pick<V1Container, 'command' | 'args'> => {
  const paths = served === 'class' ? `${HOME_PATH}/source:${HOME_PATH}/python` : `${HOME_PATH}/python`;
  const what = served === 'class' ? ['--model-directory', HOME_PATH] : ['--handler', handler!];
  return {
    command: [
      'sh',
      '-c',
      `PYTHONPATH="${paths}\${PYTHONPATH:+:$PYTHONPATH}" exec python3 -m sluice.remote_call "$@"`,
      'sluice-remote-call',
    ],
    args: [
      ...what,
      ...(onStartup === null ? [] : ['--on-startup', onStartup]),
      ...['--host', '0.0.0.0', '--port', String(port)],
      // What runs is finished when the pod is told to end.
      ...['--grace', String(Math.ceil(spec.callTimeoutMs / 1000))],
    ],
  };
};

const commandOf = (
  version: FunctionVersion,
  container: ContainerSpec,
): Pick<V1Container, 'command' | 'args'> => {
  const served = servedOf(version.spec);
  if (served !== 'image') return entrypointCommand(version, container, served);
  const { engine } = version.spec;
  const args = engine ? engineArgs(engine, engine.port) : null;
  return {
    ...(container.entrypoint === null ? {} : { command: [...container.entrypoint] }),
    ...(args === null ? {} : { args: [...args] }),
  };
};

const environmentOf = ({ spec }: FunctionVersion, options: ClusterOptions): V1EnvVar[] => {
  const own = options.podSecurity === 'restricted' ? { HOME: '/tmp' } : {};
  const port = String(spec.container?.port ?? '');
  // Of images that ask for it; the same as on a machine of its own (workers/container).
  const ports = Object.fromEntries(PORT_VARIABLES.map((name) => [name, port]));
  const { engine } = spec;
  const told = engine
    ? engineVariables(spec, engine, { port: engine.port, modelPath: MODEL_MOUNT })
    : { PYTHONUNBUFFERED: '1', ...ports, ...spec.environment.env };
  return Object.entries({ ...own, ...told })
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => ({ name, value }));
};

/** CPU is asked for and not capped: a cap throttles, and what is idle would help nobody. Memory and devices are capped. */
const resourcesOf = ({ spec }: FunctionVersion, options: ClusterOptions, cpuIsMeasured: boolean) => {
  const { cpu, memoryBytes, gpu } = spec.resources;
  // A percentage is one of what was asked for: an autoscaler by CPU needs a request.
  const cores = cpu ?? (cpuIsMeasured ? 1 : null);
  const memory: Record<string, string> = memoryBytes === null ? {} : { memory: String(memoryBytes) };
  return {
    requests: { ...(cores === null ? {} : { cpu: `${Math.max(1, Math.round(cores * 1000))}m` }), ...memory },
    limits: { ...memory, ...gpuPlacement(gpu, options.gpuLabel).limits },
  };
};

/**
 * An open port is a handler that has loaded: the reference worker and ours both open it last. So one TCP probe serves
 * every image; where the entrypoint is ours, its gRPC health service says the same with more words.
 */
const probesOf = (
  container: ContainerSpec,
  served: Served,
): Pick<V1Container, 'startupProbe' | 'readinessProbe'> => {
  const { port } = container;
  const check = served === 'image' ? { tcpSocket: { port } } : { grpc: { port } };
  const probe = { ...check, periodSeconds: PROBE_SECONDS, timeoutSeconds: PROBE_SECONDS };
  return {
    startupProbe: { ...probe, periodSeconds: 1, failureThreshold: START_SECONDS_MAX },
    readinessProbe: { ...probe, failureThreshold: 3 },
  };
};

const seconds = (ms: number): number => Math.max(1, Math.round(ms / 1000));

/** As it was registered: the kubelet's own meanings. */
const engineProbe = ({ probe, port }: EngineSpec): Pick<V1Container, 'readinessProbe'> => ({
  readinessProbe: {
    httpGet: { path: probe.path, port: probe.port ?? port, scheme: 'HTTP' },
    initialDelaySeconds: Math.round(probe.initialDelayMs / 1000),
    timeoutSeconds: seconds(probe.timeoutMs),
    periodSeconds: seconds(probe.periodMs),
    successThreshold: probe.successThreshold,
    failureThreshold: probe.failureThreshold,
  },
});

const handlerContainer = (
  version: FunctionVersion,
  container: ReturnType<typeof containerOf>,
  options: ClusterOptions,
  cpuIsMeasured: boolean,
): V1Container => {
  const mounts: V1VolumeMount[] = [{ name: 'tmp', mountPath: '/tmp' }];
  if (modelFiles(version).length > 0)
    mounts.push({ name: 'artifacts', mountPath: filesPath(version), readOnly: true });
  if (servedOf(version.spec) !== 'image') mounts.push({ name: 'home', mountPath: HOME_PATH, readOnly: true });
  return {
    name: HANDLER,
    image: container.reference,
    ...commandOf(version, container),
    env: environmentOf(version, options),
    ports: [{ name: portName(version), containerPort: container.port, protocol: 'TCP' }],
    resources: resourcesOf(version, options, cpuIsMeasured),
    volumeMounts: mounts,
    ...(version.spec.engine ? engineProbe(version.spec.engine) : probesOf(container, servedOf(version.spec))),
    lifecycle: { preStop: { sleep: { seconds: LEAVE_SECONDS } } },
    securityContext: hardened(options),
    terminationMessagePolicy: 'FallbackToLogsOnError',
  };
};

const podSpec = (version: FunctionVersion, options: ClusterOptions, cpuIsMeasured: boolean): V1PodSpec => {
  const container = containerOf(version);
  checkInit(version, container, options);
  const { nodeSelector, tolerations } = gpuPlacement(version.spec.resources.gpu, options.gpuLabel);
  const asUser =
    options.podSecurity === 'restricted' ? { runAsNonRoot: true, runAsUser: USER, runAsGroup: USER } : {};
  return {
    ...(needsInit(version) ? { initContainers: [initContainer(version, options)] } : {}),
    containers: [handlerContainer(version, container, options, cpuIsMeasured)],
    volumes: volumesOf(version, options),
    ...(options.pullSecret === '' ? {} : { imagePullSecrets: [{ name: options.pullSecret }] }),
    ...(Object.keys(nodeSelector).length === 0 ? {} : { nodeSelector: { ...nodeSelector } }),
    ...(tolerations.length === 0 ? {} : { tolerations: [...tolerations] }),
    // A running batch is finished before the pod ends.
    terminationGracePeriodSeconds: Math.ceil(version.spec.callTimeoutMs / 1000) + LEAVE_SECONDS + END_SECONDS,
    // User code has no business with the cluster's API.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: { ...asUser, fsGroup: USER, seccompProfile: { type: 'RuntimeDefault' } },
  };
};

/** @throws Error that names what of the version, or of the settings, keeps it from running in a cluster */
export const podTemplate = (
  version: FunctionVersion,
  options: ClusterOptions,
  cpuIsMeasured: boolean,
): V1PodTemplateSpec => ({
  metadata: {
    labels: { ...objectLabels(version) },
    annotations: { [ANNOTATION.function]: version.spec.name },
  },
  spec: podSpec(version, options, cpuIsMeasured),
});

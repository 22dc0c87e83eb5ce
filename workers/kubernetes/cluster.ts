/** One connection to a cluster's API: server-side apply, reading, deleting. Every failure is told in words with a way out. */
import {
  ApiException,
  CoreV1Api,
  CustomObjectsApi,
  createConfiguration,
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  PatchStrategy,
  type PodMetric,
  type RequestContext,
  type ResponseContext,
  ServerConfiguration,
  type V1PodList,
} from '@kubernetes/client-node';
import { FIELD_MANAGER } from './names.ts';
import type { ClusterOptions } from './options.ts';

/** An API that has not answered by then is not reached; what was asked is asked again later. */
const REQUEST_MS_MAX = 30_000;
/** What CRDs are there changes when an operator installs something. */
const DISCOVERY_MS = 60_000;

export type Reference = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
};

/** Another field manager has fields that we would change. */
export class ConflictError extends Error {
  readonly managers: readonly string[];

  constructor(message: string, managers: readonly string[]) {
    super(message);
    this.managers = managers;
  }
}

export class ClusterError extends Error {
  /** HTTP status; 0 when the API was not reached. */
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

type StatusBody = {
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly causes?: readonly { readonly message?: string; readonly field?: string }[] };
};

const bodyOf = ({ body }: ApiException<unknown>): StatusBody => {
  if (typeof body === 'object' && body !== null) return body as StatusBody;
  try {
    return JSON.parse(String(body)) as StatusBody;
  } catch {
    return { message: String(body).slice(0, 500) };
  }
};

const saidIn = (status: number, { message, reason }: StatusBody): string =>
  message ?? reason ?? `status ${status}`;

/**
 * Of a server that starts or ends, and of what stands before it: nothing was looked at. 429 is also "storage is
 * (re)initializing"; ServerTimeout, "please try again", comes as a 500.
 */
const TRY_AGAIN: ReadonlySet<number> = new Set([429, 502, 503, 504]);
const isTryAgain = (status: number, { reason }: StatusBody): boolean =>
  TRY_AGAIN.has(status) || reason === 'ServerTimeout';

const FIXES: Readonly<Record<number, string>> = {
  401: 'the credentials of --kubernetes-config, or of the service account, are not valid there',
  403: 'give the service account the rights of deploy/kubernetes/rbac.yaml',
};

const conflictOf = (body: StatusBody, what: string): ConflictError => {
  const causes = body.details?.causes ?? [];
  const managers = causes.flatMap(({ message }) => /conflict with "([^"]+)"/.exec(message ?? '')?.[1] ?? []);
  const fields = causes.map(({ field, message }) => `${field} (${message})`).join(', ');
  return new ConflictError(
    `${what}: another field manager has set ${fields}; take its changes back, or give --kubernetes-force yes to overwrite them`,
    managers,
  );
};

const rootCause = (error: unknown): string => {
  const { message, cause } = error instanceof Error ? error : new Error(String(error));
  return cause === undefined || cause === null ? message : `${message} (${rootCause(cause)})`;
};

const timeLimit = {
  pre: async (context: RequestContext): Promise<RequestContext> => {
    context.setSignal(AbortSignal.timeout(REQUEST_MS_MAX));
    return context;
  },
  post: async (context: ResponseContext): Promise<ResponseContext> => context,
};

/** In a pod its service account; elsewhere the file that is named, or those that every client looks for. */
export const loadKubeConfig = (kubeconfig: string): KubeConfig => {
  const config = new KubeConfig();
  try {
    if (kubeconfig === '') config.loadFromDefault();
    else config.loadFromFile(kubeconfig);
  } catch (error) {
    throw new Error(
      `--kubernetes-config is ${JSON.stringify(kubeconfig)}, and cannot be read: ${rootCause(error)}`,
    );
  }
  if (config.getCurrentCluster() === null)
    throw new Error(
      'there is no cluster to talk to; give --kubernetes-config, the path of a kubeconfig with a current context',
    );
  return config;
};

export const namespaceOf = (config: KubeConfig, { namespace }: ClusterOptions): string =>
  namespace || config.getContextObject(config.getCurrentContext())?.namespace || 'default';

export class Cluster {
  readonly config: KubeConfig;
  readonly #objects: KubernetesObjectApi;
  readonly #core: CoreV1Api;
  readonly #custom: CustomObjectsApi;
  #keda: { readonly at: number; readonly isThere: Promise<boolean> } | null = null;

  constructor(config: KubeConfig) {
    this.config = config;
    const own = createConfiguration({
      baseServer: new ServerConfiguration(this.address, {}),
      authMethods: { default: config },
      promiseMiddleware: [timeLimit],
    });
    this.#objects = new KubernetesObjectApi(own);
    this.#core = new CoreV1Api(own);
    this.#custom = new CustomObjectsApi(own);
  }

  get address(): string {
    return this.config.getCurrentCluster()!.server;
  }

  /**
   * Server-side apply.
   * @throws ConflictError, ClusterError
   */
  apply<T extends KubernetesObject>(object: T, manager = FIELD_MANAGER, force = false): Promise<T> {
    const what = `${object.kind} ${object.metadata?.name} cannot be applied`;
    return this.#asked(what, () =>
      this.#objects.patch(object, undefined, undefined, manager, force, PatchStrategy.ServerSideApply),
    );
  }

  /** null: it is not there. */
  async read<T extends KubernetesObject>(reference: Reference): Promise<T | null> {
    const what = `${reference.kind} ${reference.metadata.name} cannot be read`;
    return this.#asked(what, () => this.#objects.read<T>({ ...reference } as never)).catch(orNull);
  }

  /** The object that was read, and no newer one of its name. What is gone already is no failure. */
  async remove(reference: Reference, uid: string): Promise<void> {
    const what = `${reference.kind} ${reference.metadata.name} cannot be deleted`;
    const body = { propagationPolicy: 'Background', preconditions: { uid } };
    await this.#asked(what, () =>
      this.#objects.delete({ ...reference }, undefined, undefined, undefined, undefined, undefined, body),
    ).catch((error: unknown) => {
      // Another worker was first, and a newer one took the name.
      if (!(error instanceof ClusterError && error.status === 409)) orNull(error);
    });
  }

  pods(namespace: string, labelSelector: string): Promise<V1PodList> {
    return this.#asked('pods cannot be listed', () =>
      this.#core.listNamespacedPod({ namespace, labelSelector }),
    );
  }

  /** Whether KEDA's ScaledObject is a kind of this cluster; looked for again after a while. */
  hasKeda(): Promise<boolean> {
    const now = performance.now();
    if (this.#keda === null || now - this.#keda.at > DISCOVERY_MS) {
      const isThere = this.#lookForKeda();
      this.#keda = { at: now, isThere };
      isThere.catch(() => {
        this.#keda = null;
      });
    }
    return this.#keda.isThere;
  }

  /** What metrics.k8s.io measured of a pod last; null where nobody serves it, or it has not been measured. */
  podMetrics(namespace: string, name: string): Promise<PodMetric | null> {
    return this.#custom
      .getNamespacedCustomObject({
        group: 'metrics.k8s.io',
        version: 'v1beta1',
        namespace,
        plural: 'pods',
        name,
      })
      .then(
        (found) => found as PodMetric,
        () => null,
      );
  }

  async #lookForKeda(): Promise<boolean> {
    const found = await this.#asked("KEDA's kinds cannot be read", () =>
      this.#custom.getAPIResources({ group: 'keda.sh', version: 'v1alpha1' }),
    ).catch(orNull);
    return found?.resources.some(({ kind }) => kind === 'ScaledObject') ?? false;
  }

  async #asked<T>(what: string, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      throw this.#inWords(error, what);
    }
  }

  #inWords(error: unknown, what: string): Error {
    // The client's own word for a kind that its group does not have.
    if (error instanceof Error && error.message.startsWith('Unrecognized API version and kind'))
      return new ClusterError(`${what}: the cluster has no such kind`, 404);
    if (!(error instanceof ApiException)) return this.#notReached(what, rootCause(error));
    const body = bodyOf(error);
    if (isTryAgain(error.code, body)) return this.#notReached(what, saidIn(error.code, body));
    if (error.code === 409 && body.details?.causes?.some(({ message }) => message?.includes('conflict with')))
      return conflictOf(body, what);
    const fix = FIXES[error.code];
    const text = `${what}: ${saidIn(error.code, body)}`;
    return new ClusterError(fix === undefined ? text : `${text}; ${fix}`, error.code);
  }

  #notReached(what: string, why: string): ClusterError {
    return new ClusterError(`${what}: the Kubernetes API at ${this.address} is not reached: ${why}`, 0);
  }
}

const orNull = (error: unknown): null => {
  if (error instanceof ClusterError && error.status === 404) return null;
  throw error;
};

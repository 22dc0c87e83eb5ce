/**
 * A back end that gets versions with their source. The registry's records have none, and a host that kept the source of
 * every version that it knows would hold all that was ever deployed: it is read when something is about to start.
 */
import type { FunctionVersion } from '../shared/domain/function.ts';
import type { Registry } from '../shared/store/ports/registry.ts';
import type { Backend, Followed } from './backend.ts';

/** Between two tries to read the source of what a cluster is to run. */
const AGAIN_MS = 2000;

type Sources = Pick<Registry, 'source'>;

const withSource = async (registry: Sources, version: FunctionVersion): Promise<FunctionVersion> => {
  const source = await registry.source(version.id);
  if (source === undefined) throw new Error(`version ${version.digest} is not in the store any more`);
  return { ...version, spec: { ...version.spec, source } };
};

/** What `follow` of the back end answers, once the source is there. */
class SourcedFollowed implements Followed {
  readonly #begin: () => Promise<void>;
  readonly #onFailure: (reason: string) => void;
  #followed: Followed | null = null;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();
  #scaling: Parameters<Followed['rescale']>[0];
  #isEnded = false;

  constructor(
    registry: Sources,
    backend: Required<Pick<Backend, 'follow'>>,
    [version, scaling, onReplicas, onFailure]: Parameters<Required<Backend>['follow']>,
  ) {
    this.#scaling = scaling;
    this.#onFailure = onFailure;
    this.#begin = async () => {
      const whole = await withSource(registry, version);
      this.#followed = backend.follow(whole, this.#scaling, onReplicas, onFailure);
    };
    this.#read();
  }

  rescale(scaling: Parameters<Followed['rescale']>[0]): void {
    this.#scaling = scaling;
    this.#followed?.rescale(scaling);
  }

  async end(how: 'remove' | 'keep'): Promise<void> {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    await this.#reading;
    await this.#followed?.end(how);
  }

  #read(): void {
    this.#reading = this.#begin().catch((error: unknown) => {
      this.#onFailure(error instanceof Error ? error.message : String(error));
      if (!this.#isEnded) this.#timer = setTimeout(() => this.#read(), AGAIN_MS).unref();
    });
  }
}

export const sourcedBackend = (backend: Backend, registry: Sources): Backend => {
  const { follow } = backend;
  return {
    ignored: (version) => backend.ignored(version),
    launch: async (request) =>
      backend.launch({ ...request, version: await withSource(registry, request.version) }),
    ...(follow && {
      follow: (...args: Parameters<typeof follow>) =>
        new SourcedFollowed(registry, { follow: follow.bind(backend) }, args),
    }),
    stop: () => backend.stop(),
  };
};

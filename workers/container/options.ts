/** How containers are run on this machine; see the settings --container-… */

export type ContainerOptions = {
  /** Name or path of podman or docker; '': whichever is here, podman first. */
  readonly tool: string;
  /**
   * More flags of `run`, as `--network host`; those that builds know (`BUILD_FLAGS`) go to builds as well. With the host's
   * network a container is told its port, else it is published to loopback.
   */
  readonly args: readonly string[];
  /** The image of models that are Python code and bring none. */
  readonly pythonImage: string;
  /**
   * Whose containers these are: the same after a restart of this server (its data directory), another for other servers. What a
   * dead process of the same owner left running is removed.
   */
  readonly owner: string;
  /** Directory that holds the Python package `sluice`, for handlers in images that have none. */
  readonly pythonPath: string;
  /** How long loading a model may take. */
  readonly readyMsMax: number;
};

export const PYTHON_IMAGE = 'docker.io/library/python:3.12-slim';
/** As for handler processes. */
export const READY_MS_MAX = 900_000;

/** Flags of `run` that builds know as well; all others say something about a container. */
const BUILD_FLAGS: ReadonlySet<string> = new Set([
  '--runtime',
  '--network',
  '--net',
  '--ulimit',
  '--add-host',
  '--dns',
  '--cgroup-manager',
]);

const nameOf = (flag: string): string => flag.split('=', 1)[0]!;

/** Each flag with its value, whichever way it was written. */
const pairs = (args: readonly string[]): readonly (readonly string[])[] => {
  const found: string[][] = [];
  for (const arg of args) {
    if (arg.startsWith('-') || found.length === 0) found.push([arg]);
    else found.at(-1)!.push(arg);
  }
  return found;
};

export const buildArgs = (args: readonly string[]): readonly string[] =>
  pairs(args)
    .filter(([flag]) => BUILD_FLAGS.has(nameOf(flag!)))
    .flat();

export const usesHostNetwork = (args: readonly string[]): boolean =>
  pairs(args).some(
    ([flag, value]) => /^--net(work)?(=host)?$/.test(flag!) && (flag!.endsWith('=host') || value === 'host'),
  );

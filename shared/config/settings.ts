/**
 * Configuration compiles once: raw → validated → frozen. Precedence: flag, environment, default. Each setting says
 * what it is, in which unit, and why its default is what it is; `sluice config print` shows this table.
 */
import { SluiceError } from '../errors/sluice-error.ts';
import { withoutSecrets } from './redaction.ts';
import { prefixFault } from './redis-prefix.ts';
import { type Role, rolesOf } from './roles.ts';

type Kind = 'text' | 'address' | 'origin' | 'roles' | 'count' | 'bytes' | 'duration' | 'choice';

type Setting<T> = {
  readonly kind: Kind;
  readonly fallback: T;
  readonly about: string;
  readonly min?: number;
  readonly max?: number;
  readonly choices?: readonly string[];
};

/** A timer of more than 24.8 days fires at once, and timers are made of twice the grace. */
const DAY_MS = 86_400_000;

const text = (fallback: string, about: string): Setting<string> => ({ kind: 'text', fallback, about });
const count = (fallback: number, min: number, max: number, about: string): Setting<number> => ({
  kind: 'count',
  fallback,
  min,
  max,
  about,
});
const bytes = (fallback: number, min: number, about: string): Setting<number> => ({
  kind: 'bytes',
  fallback,
  min,
  max: 2 ** 50,
  about,
});
const duration = (fallback: number, min: number, about: string, max = 400 * DAY_MS): Setting<number> => ({
  kind: 'duration',
  fallback,
  min,
  max,
  about,
});
const choice = (fallback: string, choices: readonly string[], about: string): Setting<string> => ({
  kind: 'choice',
  fallback,
  choices,
  about,
});

const address = (fallback: string, about: string): Setting<string> => ({ kind: 'address', fallback, about });
const origin = (fallback: string, about: string): Setting<string> => ({ kind: 'origin', fallback, about });
const roles = (fallback: string, about: string): Setting<string> => ({ kind: 'roles', fallback, about });
/** Nothing of the kind happens unless it is given. */
const optionalCount = (max: number, about: string): Setting<number | null> => ({
  kind: 'count',
  fallback: null,
  min: 0,
  max,
  about,
});

const MiB = 2 ** 20;
const GiB = 2 ** 30;

export const SETTINGS = {
  host: text('127.0.0.1', 'Address to listen on. Another than loopback needs at least one API key.'),
  port: count(7700, 0, 65_535, 'Port to listen on; 0 takes a free one.'),
  grpcPort: optionalCount(
    65_535,
    'Port for the Open Inference Protocol over gRPC, on --host; 0 takes a free one. Messages have 64 MiB at most.',
  ),
  healthPort: optionalCount(
    65_535,
    'Port for /livez, /readyz and /metrics of this process, in every role, on --host; 0 takes a free one.',
  ),
  store: address(
    'embedded',
    'embedded, or the address of a Redis that many processes share (sluice serve). Give a password by the variable: others can read command lines.',
  ),
  role: roles('all', 'What this process does, on a shared store: all, or some of ingress,buffer,worker.'),
  redisPrefix: text('sluice', 'What every key in Redis begins with; servers of one prefix are one server.'),
  redisWaitaof: optionalCount(
    16,
    'Replicas whose disks, beside that of the server itself, confirm each call before it is accepted (WAITAOF, Redis 7.2).',
  ),
  s3Bucket: text(
    '',
    'Bucket of an S3-compatible server for large payloads and results, beside a Redis; empty: they lie in Redis. Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or the role of the machine.',
  ),
  s3Endpoint: origin('', 'Where that server is, such as https://minio.example:9000; empty: AWS.'),
  s3Region: text('us-east-1', 'Region of the bucket; most servers other than AWS take any.'),
  s3Prefix: text('sluice/', 'What every name in the bucket begins with.'),
  s3Threshold: bytes(
    MiB,
    1024,
    'Payloads and results from this size on go to the bucket: below it, Redis takes a few milliseconds and S3 some tens.',
  ),
  data: text('.sluice', 'Data directory of the embedded store; one process owns it.'),
  artifacts: text(
    '',
    'Directory of model files, the same for all processes of a store; empty: artifacts in --data, or the bucket of --s3-bucket, or ~/.local/share/sluice/artifacts.',
  ),
  artifactsCache: text(
    '',
    'Where model files of the bucket are fetched to; empty: ~/.cache/sluice/artifacts.',
  ),
  artifactsCacheLimit: bytes(
    200 * GiB,
    MiB,
    'Bytes of that directory at most; what was not used for longest makes room.',
  ),
  environments: text(
    '',
    'Where the virtual environments of isolated functions and models are kept; empty: ~/.cache/sluice/environments.',
  ),
  environmentsLimit: bytes(
    50 * GiB,
    MiB,
    'Bytes of that directory at most; what was not used for longest makes room, and what is used stays.',
  ),
  durability: choice(
    'fsync',
    ['fsync', 'memory'],
    'memory: accepted calls are lost in a power cut; every call says so.',
  ),
  ingressThreads: count(0, 0, 64, 'HTTP threads; 0: half of the cores, at least 1, at most 8.'),
  bodyBytesMax: bytes(
    256 * MiB,
    1024,
    'Decoded request body at most: one call is held in memory while it is read.',
  ),
  jsonBytesMax: bytes(
    32 * MiB,
    1024,
    'Decoded body of a call in JSON at most: parsing it takes many times its bytes. Arrow streams have --body-bytes-max.',
  ),
  connectionsMax: count(10_000, 1, 1_000_000, 'Open HTTP connections at most.'),
  waitMaxMs: duration(600_000, 1, 'Longest wait of a long poll; proxies cut longer ones.'),
  queueRowsMax: count(
    100_000_000,
    1,
    2 ** 40,
    'Unfinished rows of one function at most, waiting or in batches; more is refused with 429.',
  ),
  queueBytesMax: bytes(
    64 * GiB,
    1,
    'Payload bytes of the unfinished rows of one function at most; more is refused with 429.',
  ),
  diskLimit: bytes(
    100 * GiB,
    16 * MiB,
    'Bytes of the data directory at which admission is refused with 507.',
  ),
  diskReserve: bytes(
    512 * MiB,
    0,
    'Free bytes on the file system that admission leaves to settling and to others.',
  ),
  retention: duration(86_400_000, 1000, 'How long a finished call can be read.'),
  acknowledgedRetention: duration(300_000, 0, 'How long it can be read once its reader has acknowledged it.'),
  lease: duration(
    30_000,
    200,
    'How long a worker may be silent before its batch is given to another.',
    DAY_MS,
  ),
  claimsMax: count(5, 0, 1000, 'Leases lost to crashes before a batch is isolated row by row.'),
  grace: duration(
    30_000,
    0,
    'How long a stop may take; batches that still run then are handed back.',
    DAY_MS,
  ),
  leavePause: duration(
    250,
    0,
    'How long a stop is not ready before it stops anything, for balancers to notice; part of the grace.',
    DAY_MS,
  ),
  containerTool: text(
    '',
    'Name or path of podman or docker, for the back end container; empty: whichever is here, podman first.',
  ),
  containerArgs: text(
    '',
    'More flags of its run, between blanks, such as "--network host"; those that builds know go to builds as well.',
  ),
  containerPythonImage: text(
    'docker.io/library/python:3.12-slim',
    'Image for models that are Python code and bring none.',
  ),
  kubernetesConfig: text(
    '',
    'Path of the kubeconfig for the back end kubernetes; empty: in a pod its service account, elsewhere $KUBECONFIG or ~/.kube/config.',
  ),
  kubernetesNamespace: text(
    '',
    'Namespace that models run in; empty: that of the pod or of the kubeconfig. Two servers need one each.',
  ),
  kubernetesImage: text(
    '',
    "Sluice's own image: an init container of it brings model files and the entrypoint into pods; empty: versions that need one are refused.",
  ),
  kubernetesAddress: origin(
    '',
    'Where pods reach the API of this server, for model files, such as http://sluice.sluice.svc:7700.',
  ),
  kubernetesSecret: text(
    '',
    'Secret in that namespace whose "key" is an API key with the scope call, for the same; empty: the API needs none.',
  ),
  kubernetesPullSecret: text(
    '',
    'Secret in that namespace with which images are pulled; empty: none is needed.',
  ),
  kubernetesGpuLabel: text(
    'cloud.google.com/gke-accelerator',
    'Node label that holds the type of the GPUs of a node, such as nvidia.com/gpu.product; empty: types choose no nodes.',
  ),
  kubernetesMetrics: origin(
    '',
    'The /metrics of a process with the role ingress, as KEDA reaches it; empty, or without KEDA, replicas are counted by CPU alone.',
  ),
  kubernetesPodSecurity: choice(
    'restricted',
    ['restricted', 'image'],
    'restricted: pods run as user 10001 with a read-only root. image: as their image says, for those that need it.',
  ),
  kubernetesForce: choice(
    'no',
    ['no', 'yes'],
    'yes: take fields that another field manager has set in the cluster, instead of saying so.',
  ),
  logLevel: choice(
    'info',
    ['trace', 'debug', 'info', 'warn', 'error', 'silent'],
    'Least severe log line written.',
  ),
  logFormat: choice(
    'auto',
    ['auto', 'json', 'lines'],
    'lines: for people; auto: these where sluice dev writes to a terminal, else JSON.',
  ),
} as const satisfies Record<string, Setting<string> | Setting<number> | Setting<number | null>>;

export type SettingName = keyof typeof SETTINGS;
export type Settings = {
  readonly [K in SettingName]: (typeof SETTINGS)[K] extends Setting<number>
    ? number
    : (typeof SETTINGS)[K] extends Setting<string>
      ? string
      : number | null;
};

export const isSettingName = (name: string): name is SettingName => Object.hasOwn(SETTINGS, name);

export const flagOf = (name: SettingName): string =>
  `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
export const variableOf = (name: SettingName): string =>
  `SLUICE_${name.replace(/[A-Z]/g, (c) => `_${c}`).toUpperCase()}`;

const UNITS: Readonly<Record<'bytes' | 'duration', Readonly<Record<string, number>>>> = {
  bytes: {
    '': 1,
    b: 1,
    k: 1024,
    kb: 1000,
    kib: 1024,
    m: MiB,
    mb: 1e6,
    mib: MiB,
    g: GiB,
    gb: 1e9,
    gib: GiB,
    t: 2 ** 40,
    tib: 2 ** 40,
  },
  duration: { '': 1, ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 },
};

/** A setting's value as it may be printed. */
export const shownSetting = (name: SettingName, value: string | number | null): string => {
  if (value === null) return 'none';
  const { kind }: { readonly kind: Kind } = SETTINGS[name];
  return kind === 'address' || kind === 'origin' ? withoutSecrets(String(value)) : String(value);
};

const wrong = (name: SettingName, value: string, want: string): SluiceError =>
  new SluiceError(
    'invalid_request',
    `${flagOf(name)} (${variableOf(name)}) is ${JSON.stringify(shownSetting(name, value))}; ${want}.`,
    {
      field: name,
    },
  );

const amount = (name: SettingName, kind: 'bytes' | 'duration', value: string): number => {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(value.trim());
  const unit = match && UNITS[kind][(match[2] ?? '').toLowerCase()];
  if (!match || !unit) {
    throw wrong(
      name,
      value,
      kind === 'bytes' ? 'give bytes such as 512MiB' : 'give a duration such as 250ms, 30s or 24h',
    );
  }
  return Math.round(Number(match[1]) * unit);
};

/** What the Redis store understands is its own matter (shared/store/redis); here is what tells it from a typing error. */
const ADDRESS = /^rediss?([+-](sentinel|cluster))?:\/\/./;

const parseAddress = (name: SettingName, value: string): string => {
  if (value === 'embedded' || ADDRESS.test(value)) return value;
  throw wrong(name, value, 'give embedded, or an address such as redis://HOST:6379');
};

const parseOrigin = (name: SettingName, value: string): string => {
  if (value === '' || /^https?:\/\/[^@?#\s]+$/.test(value)) return value;
  throw wrong(
    name,
    value,
    name.startsWith('s3')
      ? 'give http(s)://HOST:PORT; credentials come from AWS_… variables'
      : 'give http(s)://HOST:PORT, without credentials and query',
  );
};

const parseRoles = (name: SettingName, value: string): string => {
  const named = rolesOf(value);
  if (named === null) throw wrong(name, value, 'give all, or some of ingress,buffer,worker');
  return named.size === 3 ? 'all' : [...named].join(',');
};

const parse = (name: SettingName, value: string): string | number => {
  const setting: Setting<string> | Setting<number> | Setting<number | null> = SETTINGS[name];
  if (setting.kind === 'text') return value;
  if (setting.kind === 'address') return parseAddress(name, value);
  if (setting.kind === 'origin') return parseOrigin(name, value);
  if (setting.kind === 'roles') return parseRoles(name, value);
  if (setting.kind === 'choice') {
    if (!setting.choices?.includes(value))
      throw wrong(name, value, `give one of ${setting.choices?.join(', ')}`);
    return value;
  }
  const parsed = setting.kind === 'count' ? Number(value) : amount(name, setting.kind, value);
  const [min, max] = [setting.min ?? 0, setting.max ?? Number.MAX_SAFE_INTEGER];
  if (!Number.isInteger(parsed) || parsed < min || parsed > max) {
    throw wrong(name, value, `give a whole number from ${min} to ${max}`);
  }
  return parsed;
};

/** Validates and freezes. `raw` holds texts by setting name, as flags and environment give them. */
export const compileSettings = (raw: Readonly<Partial<Record<string, string>>>): Settings => {
  const settings: Record<string, string | number | null> = {};
  for (const name of Object.keys(raw)) {
    if (!isSettingName(name)) {
      throw new SluiceError('invalid_request', `There is no setting ${name}; see sluice config print.`, {
        field: name,
      });
    }
  }
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const value = raw[name];
    settings[name] = value === undefined ? SETTINGS[name].fallback : parse(name, value);
  }
  const compiled = settings as Settings;
  if (compiled.acknowledgedRetention > compiled.retention) {
    throw wrong(
      'acknowledgedRetention',
      String(compiled.acknowledgedRetention),
      `it may not exceed ${flagOf('retention')}`,
    );
  }
  checkProcess(compiled, raw);
  return Object.freeze(compiled);
};

/** What only a store in Redis has. */
export const REDIS_ONLY = [
  'redisPrefix',
  'redisWaitaof',
  's3Bucket',
  's3Endpoint',
  's3Region',
  's3Prefix',
  's3Threshold',
] as const satisfies readonly SettingName[];

/** What one process is asked to be must make sense as a whole. */
const checkProcess = (settings: Settings, raw: Readonly<Partial<Record<string, string>>>): void => {
  const { store, role, port, grpcPort, healthPort } = settings;
  const isIngress = settingsRoles(settings).has('ingress');
  if (store === 'embedded' && role !== 'all')
    throw wrong(
      'role',
      role,
      'one process does everything on the embedded store; give --store redis://… as well',
    );
  for (const name of REDIS_ONLY) {
    const value = raw[name];
    if (store === 'embedded' && value !== undefined)
      throw wrong(name, value, 'the embedded store has nothing in Redis; give --store redis://… as well');
    if (name.startsWith('s3') && value !== undefined && settings.s3Bucket === '')
      throw wrong(name, value, 'there is no bucket; give --s3-bucket as well');
  }
  for (const name of ['artifactsCache', 'artifactsCacheLimit'] as const)
    if (raw[name] !== undefined && (settings.s3Bucket === '' || settings.artifacts !== ''))
      throw wrong(
        name,
        raw[name],
        'artifacts lie in a directory here and are not fetched; give --s3-bucket, and no --artifacts',
      );
  if (!/^([\w.-]{3,63})?$/.test(settings.s3Bucket))
    throw wrong(
      's3Bucket',
      settings.s3Bucket,
      'give the name of a bucket alone: letters, digits, dots and hyphens',
    );
  if (!/^[\w./:-]{0,200}$/.test(settings.s3Prefix))
    throw wrong('s3Prefix', settings.s3Prefix, 'give at most 200 letters, digits and ._:/-');
  const fault = prefixFault(settings.redisPrefix);
  if (fault !== null) throw wrong('redisPrefix', settings.redisPrefix, fault);
  if (!isIngress && raw.port !== undefined)
    throw wrong(
      'port',
      raw.port,
      `a process of the role ${role} has no API to listen for; give --health-port`,
    );
  if (!isIngress && grpcPort !== null)
    throw wrong('grpcPort', String(grpcPort), `a process of the role ${role} has no API to listen for`);
  const taken = [isIngress ? port : 0];
  for (const [name, value] of [['grpcPort', grpcPort] as const, ['healthPort', healthPort] as const]) {
    if (value === null || value === 0) continue;
    if (taken.includes(value)) {
      const other = value === taken[0] ? 'the --port of the API' : 'the --grpc-port';
      throw wrong(name, String(value), `it may not be ${other}`);
    }
    taken.push(value);
  }
};

export const settingsRoles = ({ role }: Pick<Settings, 'role'>): ReadonlySet<Role> => rolesOf(role)!;

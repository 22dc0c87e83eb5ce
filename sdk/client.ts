/** The client of one Sluice server. */
import type { CallStatus } from '../shared/domain/call.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type {
  CallJson,
  FunctionJson,
  KeyJson,
  KeyScope,
  LogLineJson,
  ServerJson,
  SpecJson,
} from '../shared/wire/api.ts';
import { Artifacts } from './artifacts.ts';
import { CallHandle } from './call-handle.ts';
import { Engines } from './engines.ts';
import { jsonBody, queryText } from './json-request.ts';
import { Models } from './models.ts';
import { pathPart } from './path-part.ts';
import { RemoteFunction } from './remote-function.ts';
import { ScalingGroups } from './scaling-groups.ts';
import { Transport } from './transport.ts';

export type ClientOptions = {
  /** Default: SLUICE_URL, else http://127.0.0.1:7700. */
  readonly url?: string | undefined;
  /** Default: SLUICE_API_KEY; null sends none. */
  readonly apiKey?: string | null | undefined;
  /** How often a request that is safe to send again is sent again. Default 10, which bridges half a minute. */
  readonly retries?: number | undefined;
  /** Another implementation of fetch. */
  readonly fetch?: typeof fetch | undefined;
};

export type BatchingLimits = {
  readonly max_batching_size?: number | null;
  readonly max_buffer_duration?: number | null;
  readonly max_batch_bytes?: number;
};

const DEFAULT_URL = 'http://127.0.0.1:7700';
const RETRIES = 10;

/** Environment variables where there are any (Node, Bun, Deno with permission); a browser has none. */
const environment = (name: string): string | undefined => {
  try {
    return (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env?.[name];
  } catch {
    return undefined;
  }
};

const validUrl = (url: string): string => {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new SluiceError('invalid_request', `The url is "${url}"; give one such as ${DEFAULT_URL}.`, {
      field: 'url',
    });
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')
    throw new SluiceError('invalid_request', `The url is "${url}"; it must begin with http:// or https://.`, {
      field: 'url',
    });
  return url.replace(/\/+$/, '');
};

const validKey = (apiKey: string | null): string | null => {
  if (apiKey === null || /^[ -~]*$/.test(apiKey)) return apiKey;
  throw new SluiceError(
    'invalid_request',
    'The API key has characters that no key has; give it as `sluice keys create` printed it.',
    { field: 'apiKey' },
  );
};

export class Sluice {
  readonly url: string;
  /** Large files by their digests, as models refer to them. */
  readonly artifacts: Artifacts;
  readonly models: Models;
  readonly engines: Engines;
  readonly scalingGroups: ScalingGroups;
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    this.url = validUrl(options.url ?? environment('SLUICE_URL') ?? DEFAULT_URL);
    this.#transport = new Transport({
      url: this.url,
      apiKey: validKey(
        options.apiKey === undefined ? (environment('SLUICE_API_KEY') ?? null) : options.apiKey,
      ),
      retries: options.retries ?? RETRIES,
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    });
    this.artifacts = new Artifacts(this.#transport);
    this.models = new Models(this.#transport);
    this.engines = new Engines(this.#transport);
    this.scalingGroups = new ScalingGroups(this.#transport);
  }

  /** A function by its name. `Inputs` is one row of its inputs, `Output` one result; neither is checked here. */
  function<Inputs = unknown, Output = unknown>(name: string): RemoteFunction<Inputs, Output> {
    return new RemoteFunction<Inputs, Output>(this.#transport, name);
  }

  /** A handle on a call that was submitted before, here or elsewhere. */
  call<Output = unknown>(callId: string): CallHandle<Output> {
    return new CallHandle<Output>(this.#transport, callId);
  }

  /** Registers a version of a function. `isNew`: false when the same was registered before. */
  async deploy(spec: SpecJson): Promise<{ function: FunctionJson; isNew: boolean }> {
    const answer = await this.#transport.request('/v1/functions', {
      ...jsonBody({ function: spec }),
      method: 'POST',
      isSafe: true,
    });
    return { function: answer.json<FunctionJson>(), isNew: answer.status === 201 };
  }

  async functions(): Promise<readonly FunctionJson[]> {
    const { functions } = await this.#get<{ functions: readonly FunctionJson[] }>('/v1/functions');
    return functions;
  }

  /** New batching limits, from the next batch on. */
  update(name: string, limits: BatchingLimits): Promise<FunctionJson> {
    return this.#transport.json(functionPath(name), { ...jsonBody(limits), method: 'PATCH', isSafe: true });
  }

  /** Calls are still admitted; no batch starts. */
  pause(name: string): Promise<FunctionJson> {
    return this.#post(functionPath(name, 'pause'));
  }

  resume(name: string): Promise<FunctionJson> {
    return this.#post(functionPath(name, 'resume'));
  }

  /** Cancels every unfinished call of the function. */
  purge(name: string): Promise<{ calls: number; rows: number }> {
    return this.#post(functionPath(name, 'purge'));
  }

  /** Moves the waiting calls of one version to another with the same schemas. */
  repin(name: string, versions: { from: string; to: string }): Promise<{ calls: number }> {
    return this.#post(functionPath(name, 'repin'), versions);
  }

  async logs(name: string, options: { limit?: number | undefined } = {}): Promise<readonly LogLineJson[]> {
    const { lines } = await this.#get<{ lines: readonly LogLineJson[] }>(
      `${functionPath(name, 'logs')}${queryText(options)}`,
    );
    return lines;
  }

  /** @throws SluiceError `function_busy` while it has unfinished calls */
  async delete(name: string): Promise<void> {
    await this.#transport.request(functionPath(name), { method: 'DELETE', isSafe: true });
  }

  /** One page of calls, newest first. */
  async calls(
    options: {
      function?: string | undefined;
      status?: CallStatus | undefined;
      limit?: number | undefined;
      cursor?: string | undefined;
    } = {},
  ): Promise<{ calls: readonly CallJson[]; nextCursor: string | null }> {
    const page = await this.#get<{ calls: readonly CallJson[]; next_cursor: string | null }>(
      `/v1/calls${queryText(options)}`,
    );
    return { calls: page.calls, nextCursor: page.next_cursor };
  }

  cancel(callId: string): Promise<CallJson> {
    return this.call(callId).cancel();
  }

  acknowledge(callId: string): Promise<void> {
    return this.call(callId).acknowledge();
  }

  /** The answer's `secret` is shown once. Not retried after a lost answer, which would make a second key. */
  createKey(name: string, scopes: readonly KeyScope[]): Promise<KeyJson> {
    return this.#transport.json('/v1/keys', { ...jsonBody({ name, scopes }), method: 'POST' });
  }

  async keys(): Promise<readonly KeyJson[]> {
    const answer = await this.#get<{ keys: readonly KeyJson[] }>('/v1/keys');
    return answer.keys;
  }

  async revokeKey(id: string): Promise<void> {
    await this.#transport.request(`/v1/keys/${pathPart(id)}`, { method: 'DELETE', isSafe: true });
  }

  server(): Promise<ServerJson> {
    return this.#get('/v1/server');
  }

  #get<T>(path: string): Promise<T> {
    return this.#transport.json<T>(path, { isSafe: true });
  }

  /** Posts that are the same when they are done twice. */
  #post<T>(path: string, body?: unknown): Promise<T> {
    return this.#transport.json<T>(path, {
      ...(body === undefined ? {} : jsonBody(body)),
      method: 'POST',
      isSafe: true,
    });
  }
}

const functionPath = (name: string, verb?: string): string =>
  `/v1/functions/${pathPart(name)}${verb === undefined ? '' : `/${verb}`}`;

/** Models: numbered versions of schemas, files and code, which scaling groups run as functions. */
import type {
  ComparisonJson,
  ModelJson,
  ModelVersionJson,
  RegistrationJson,
} from '../shared/wire/model-api.ts';
import { jsonBody, queryText } from './json-request.ts';
import { pathPart } from './path-part.ts';
import type { Transport } from './transport.ts';

/** A number, an alias, or `latest`. */
export type VersionName = number | string;

/** Of one page; the server has no larger ones. */
const MODELS_PAGE = 1000;
const VERSIONS_PAGE = 100;

export class Models {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** All models, by name. */
  async list(): Promise<readonly ModelJson[]> {
    const models: ModelJson[] = [];
    for (;;) {
      const question = queryText({ limit: MODELS_PAGE, after: models.at(-1)?.name });
      const page = await this.#get<{ models: readonly ModelJson[] }>(`/v1/models${question}`);
      models.push(...page.models);
      if (page.models.length < MODELS_PAGE) return models;
    }
  }

  /** @throws SluiceError `model_not_found` */
  get(model: string): Promise<ModelJson> {
    return this.#get(modelPath(model));
  }

  describe(model: string, description: string): Promise<ModelJson> {
    return this.#send('PATCH', modelPath(model), { description });
  }

  /** The newest first, without source; `after`: those below this number. */
  async versions(
    model: string,
    options: { limit?: number | undefined; after?: number | undefined } = {},
  ): Promise<readonly ModelVersionJson[]> {
    const versions: ModelVersionJson[] = [];
    const limit = options.limit ?? Number.POSITIVE_INFINITY;
    let after = options.after;
    for (;;) {
      const wanted = Math.min(VERSIONS_PAGE, limit - versions.length);
      const question = queryText({ limit: wanted, after });
      const page = await this.#get<{ versions: readonly ModelVersionJson[] }>(
        `${modelPath(model)}/versions${question}`,
      );
      versions.push(...page.versions);
      after = versions.at(-1)?.version;
      if (page.versions.length < wanted || versions.length >= limit) return versions;
    }
  }

  /** One version with its source; the latest where none is named. */
  version(model: string, version: VersionName = 'latest'): Promise<ModelVersionJson> {
    return this.#get(versionPath(model, version));
  }

  compare(model: string, from: VersionName, to: VersionName): Promise<ComparisonJson> {
    return this.#get(`${modelPath(model)}/compare${queryText({ from, to })}`);
  }

  /**
   * Makes the next version, and the model when it is new. Its files are on the server already (`client.artifacts.upload`).
   * The same key and registration again answer the version that was made.
   *
   * @throws SluiceError `invalid_model`, `artifact_not_found`
   */
  register(
    model: string,
    registration: RegistrationJson,
    options: { idempotencyKey?: string | undefined } = {},
  ): Promise<ModelVersionJson> {
    const { body, headers } = jsonBody(registration);
    return this.#transport.json(`${modelPath(model)}/versions`, {
      method: 'POST',
      body,
      headers: { ...headers, 'idempotency-key': options.idempotencyKey ?? crypto.randomUUID() },
      isSafe: true,
    });
  }

  /** Points the alias to the version. Groups that run the alias go on with what they run until they are deployed again. */
  setAlias(model: string, alias: string, version: number): Promise<ModelJson> {
    return this.#send('PUT', aliasPath(model, alias), { version });
  }

  removeAlias(model: string, alias: string): Promise<ModelJson> {
    return this.#transport.json(aliasPath(model, alias), { method: 'DELETE', isSafe: true });
  }

  /** null: none. */
  setStage(model: string, version: VersionName, stage: string | null): Promise<ModelVersionJson> {
    return this.#send('PATCH', versionPath(model, version), { stage });
  }

  /** In place of what there was. */
  setMetadata(
    model: string,
    version: VersionName,
    metadata: Readonly<Record<string, string>>,
  ): Promise<ModelVersionJson> {
    return this.#send('PATCH', versionPath(model, version), { metadata });
  }

  /** A version, or without one the model with all of them. @throws SluiceError `model_deployed` while a group runs it */
  async remove(model: string, version?: VersionName): Promise<void> {
    const path = version === undefined ? modelPath(model) : versionPath(model, version);
    await this.#transport.request(path, { method: 'DELETE', isSafe: true });
  }

  #get<T>(path: string): Promise<T> {
    return this.#transport.json<T>(path, { isSafe: true });
  }

  #send<T>(method: 'PUT' | 'PATCH', path: string, body: unknown): Promise<T> {
    return this.#transport.json<T>(path, { ...jsonBody(body), method, isSafe: true });
  }
}

const modelPath = (model: string): string => `/v1/models/${pathPart(model)}`;
const versionPath = (model: string, version: VersionName): string =>
  `${modelPath(model)}/versions/${pathPart(version)}`;
const aliasPath = (model: string, alias: string): string => `${modelPath(model)}/aliases/${pathPart(alias)}`;

/** Inference engines: HTTP servers that serve models, registered once and run by scaling groups. */
import type { EngineJson, EngineRequestJson, EngineVersionJson } from '../shared/wire/engines-api.ts';
import { jsonBody, queryText } from './json-request.ts';
import { pathPart } from './path-part.ts';
import type { Transport } from './transport.ts';

/** Of one page; the server has no larger ones. */
const ENGINES_PAGE = 1000;

export class Engines {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** By project and name; of one project where it is given. */
  async list(options: { project?: string | undefined } = {}): Promise<readonly EngineJson[]> {
    const engines: EngineJson[] = [];
    for (;;) {
      const last = engines.at(-1);
      const after = last === undefined ? undefined : `${last.project}/${last.name}`;
      const question = queryText({ limit: ENGINES_PAGE, after, project: options.project });
      const page = await this.#get<{ engines: readonly EngineJson[] }>(`/v1/engines${question}`);
      engines.push(...page.engines);
      if (page.engines.length < ENGINES_PAGE) return engines;
    }
  }

  /** @throws SluiceError `engine_not_found` */
  get(project: string, name: string): Promise<EngineJson> {
    return this.#get(enginePath(project, name));
  }

  /** One version; the default one where none is named. @throws SluiceError `engine_not_found` */
  version(project: string, name: string, version = 'default'): Promise<EngineVersionJson> {
    return this.#get(versionPath(project, name, version));
  }

  /**
   * Registers a version. The same configuration again is the same version.
   *
   * @throws SluiceError `invalid_engine`, `engine_version_exists`
   */
  create(engine: EngineRequestJson): Promise<EngineVersionJson> {
    return this.#transport.json('/v1/engines', { ...jsonBody(engine), method: 'POST', isSafe: true });
  }

  /** What selectors without a version mean from now on; groups go on with what they run until they are deployed again. */
  setDefault(project: string, name: string, version: string): Promise<EngineJson> {
    const path = `${enginePath(project, name)}/default`;
    return this.#transport.json(path, { ...jsonBody({ version }), method: 'PUT', isSafe: true });
  }

  /** A version, or without one the engine with all of them. @throws SluiceError `engine_in_use` while a group runs it */
  async remove(project: string, name: string, version?: string): Promise<void> {
    const path = version === undefined ? enginePath(project, name) : versionPath(project, name, version);
    await this.#transport.request(path, { method: 'DELETE', isSafe: true });
  }

  #get<T>(path: string): Promise<T> {
    return this.#transport.json<T>(path, { isSafe: true });
  }
}

const enginePath = (project: string, name: string): string =>
  `/v1/engines/${pathPart(project)}/${pathPart(name)}`;
const versionPath = (project: string, name: string, version: string): string =>
  `${enginePath(project, name)}/versions/${pathPart(version)}`;

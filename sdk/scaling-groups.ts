/** Scaling groups: each runs one version of a model as the function `model.<group>`. */
import type {
  DriftJson,
  DriftRequestJson,
  InferenceFileJson,
  InferenceFilesJson,
} from '../shared/wire/inference-api.ts';
import type {
  DeploymentJson,
  GroupPatchJson,
  GroupState,
  ScalingGroupJson,
  ScalingJson,
} from '../shared/wire/model-api.ts';
import { Deadline } from './deadline.ts';
import { DeploymentError, TimeoutError } from './errors.ts';
import { jsonBody, queryText } from './json-request.ts';
import { pathPart } from './path-part.ts';
import { pause, type Transport } from './transport.ts';

export type ReadyOptions = {
  /** How long to wait at most; without it as long as it takes. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Each time that the group is looked at. */
  readonly onState?: ((group: ScalingGroupJson) => void) | undefined;
  /** What the deployment answered; an update that was rolled back since then has failed. */
  readonly since?: ScalingGroupJson | undefined;
};

export type InferenceFilesOptions = {
  /** Files with rows from this time up to, and without, `until`; texts are ISO 8601 with a zone. */
  readonly from?: Date | string | undefined;
  readonly until?: Date | string | undefined;
  /** Without it all of them. */
  readonly limit?: number | undefined;
};

/** Of one page; the server has no larger ones. */
const GROUPS_PAGE = 100;
const FILES_PAGE = 1000;
const LOOK_FIRST_MS = 100;
const LOOK_LONGEST_MS = 2000;
const DONE: readonly GroupState[] = ['ready', 'idle'];

export class ScalingGroups {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** All groups, by name. */
  async list(): Promise<readonly ScalingGroupJson[]> {
    const groups: ScalingGroupJson[] = [];
    for (;;) {
      const question = queryText({ limit: GROUPS_PAGE, after: groups.at(-1)?.name });
      const { scaling_groups: page } = await this.#transport.json<{
        scaling_groups: readonly ScalingGroupJson[];
      }>(`/v1/scaling-groups${question}`, { isSafe: true });
      groups.push(...page);
      if (page.length < GROUPS_PAGE) return groups;
    }
  }

  /** @throws SluiceError `scaling_group_not_found` */
  get(group: string): Promise<ScalingGroupJson> {
    return this.#transport.json(groupPath(group), { isSafe: true });
  }

  /**
   * Runs a model version, or updates the group to it: new replicas are ready before the old ones go. `waitReady` waits for them.
   *
   * @throws SluiceError `model_not_found`, `invalid_scaling_group`
   */
  deploy(group: string, deployment: DeploymentJson): Promise<ScalingGroupJson> {
    return this.#transport.json(groupPath(group), { ...jsonBody(deployment), method: 'PUT', isSafe: true });
  }

  /** Scaling and batching limits, or a part of them. No replica starts again. */
  update(group: string, patch: GroupPatchJson): Promise<ScalingGroupJson> {
    return this.#transport.json(groupPath(group), { ...jsonBody(patch), method: 'PATCH', isSafe: true });
  }

  /** How many replicas there may be, and what they are counted by. */
  scale(group: string, scaling: Partial<ScalingJson>): Promise<ScalingGroupJson> {
    return this.update(group, { scaling });
  }

  /** To the version before. Not sent again after a lost answer, which would go back twice. */
  rollback(group: string): Promise<ScalingGroupJson> {
    return this.#transport.json(`${groupPath(group)}/rollback`, { method: 'POST' });
  }

  /** @throws SluiceError `function_busy` while calls are unfinished; `isForced` cancels them */
  async remove(group: string, options: { isForced?: boolean | undefined } = {}): Promise<void> {
    const question = queryText({ force: options.isForced === true ? true : undefined });
    await this.#transport.request(`${groupPath(group)}${question}`, { method: 'DELETE', isSafe: true });
  }

  /**
   * What the group's inference store has, by the time of the oldest row: Parquet files, each an artifact (`artifacts.download`).
   *
   * @throws SluiceError `scaling_group_not_found`; `forbidden` without the scope `deploy`, since the rows are those of all callers
   */
  async inferenceFiles(
    group: string,
    options: InferenceFilesOptions = {},
  ): Promise<readonly InferenceFileJson[]> {
    const files: InferenceFileJson[] = [];
    const limit = options.limit ?? Number.POSITIVE_INFINITY;
    const span = { from: timeText(options.from), until: timeText(options.until) };
    for (let after: string | undefined; files.length < limit; ) {
      const question = queryText({ ...span, limit: Math.min(FILES_PAGE, limit - files.length), after });
      const path = `${groupPath(group)}/inference-files${question}`;
      const page = await this.#transport.json<InferenceFilesJson>(path, { isSafe: true });
      files.push(...page.inference_files);
      if (page.next === null) break;
      after = page.next;
    }
    return files;
  }

  /** What is compared, and the last figures. @throws SluiceError `drift_not_found` */
  drift(group: string): Promise<DriftJson> {
    return this.#transport.json(`${groupPath(group)}/drift`, { isSafe: true });
  }

  /** Compares, every minute from now on, the last `window_ms` with the reference, whose files are kept meanwhile. */
  setDrift(group: string, drift: DriftRequestJson): Promise<DriftJson> {
    const path = `${groupPath(group)}/drift`;
    return this.#transport.json(path, { ...jsonBody(drift), method: 'PUT', isSafe: true });
  }

  async endDrift(group: string): Promise<void> {
    await this.#transport.request(`${groupPath(group)}/drift`, { method: 'DELETE', isSafe: true });
  }

  /**
   * Resolves when the group serves what was deployed last.
   *
   * @throws DeploymentError when no replica can start, or the update was rolled back; TimeoutError, and the group goes on
   */
  async waitReady(group: string, options: ReadyOptions = {}): Promise<ScalingGroupJson> {
    const { timeoutMs, signal, onState } = options;
    const deadline = timeoutMs === undefined ? null : new Deadline(timeoutMs);
    const look = (): Promise<ScalingGroupJson> =>
      this.#transport.json(groupPath(group), { isSafe: true, signal, deadline });
    const begun = options.since ?? (await look());
    let waitMs = LOOK_FIRST_MS;
    for (let now = begun; ; now = await look()) {
      onState?.(now);
      const dropped = rolledBack(now, begun);
      if (dropped !== null) throw new DeploymentError(group, 'rolled_back', dropped);
      if (now.state === 'failed')
        throw new DeploymentError(group, 'failed', now.reason ?? 'no replica says why');
      if (now.update === null && DONE.includes(now.state)) return now;
      if (deadline !== null && waitMs > deadline.leftMs)
        throw new TimeoutError(
          null,
          deadline.timeoutMs,
          `Scaling group ${group} is ${now.state} after ${timeoutMs} ms${now.reason === null ? '' : `: ${now.reason}`}; it goes on.`,
        );
      await pause(waitMs, signal);
      waitMs = Math.min(LOOK_LONGEST_MS, waitMs * 1.5);
    }
  }
}

/** Why an update was taken back that was under way then; null: none was. */
const rolledBack = (group: ScalingGroupJson, since: ScalingGroupJson): string | null => {
  const known = new Set(since.events.map(({ at, kind, text }) => `${at} ${kind} ${text}`));
  const event = group.events.findLast(
    ({ at, kind, text }) => kind === 'rolled_back' && !known.has(`${at} ${kind} ${text}`),
  );
  return event?.text ?? null;
};

const timeText = (time: Date | string | undefined): string | undefined =>
  time instanceof Date ? time.toISOString() : time;

const groupPath = (group: string): string => `/v1/scaling-groups/${pathPart(group)}`;

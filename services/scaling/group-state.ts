/** How a group is doing, from its document, its function and what workers report: for people, and for events. */
import type { FunctionRecord, ReplicaReport } from '../../shared/domain/function.ts';
import { functionNameOf } from '../../shared/domain/model.ts';
import { presentSelector } from '../../shared/wire/engines.ts';
import { presentInferenceStore } from '../../shared/wire/inference-store.ts';
import type { GroupState, ReplicaJson, ScalingGroupJson } from '../../shared/wire/model-api.ts';
import { presentScaling } from '../../shared/wire/scaling-groups.ts';
import { batchingJson, presentResources, presentRetry } from '../../shared/wire/spec.ts';
import { type Group, type Release, shortened } from './group-records.ts';
import { reasonOf, rolloutDecision } from './rollout-decision.ts';

export type GroupSight = {
  readonly group: Group;
  /** undefined: the function is not there yet, or not any more. */
  readonly record: FunctionRecord | undefined;
  readonly reports: readonly ReplicaReport[];
  readonly now: number;
};

type Counts = { readonly ready: number; readonly starting: number; readonly failed: number };

const countsOf = (reports: readonly ReplicaReport[]): Counts => ({
  ready: reports.reduce((sum, { ready }) => sum + ready, 0),
  starting: reports.reduce((sum, { starting }) => sum + starting, 0),
  failed: reports.reduce((sum, { failed }) => sum + failed, 0),
});

const plural = (count: number): string => `${count} replica${count === 1 ? '' : 's'}`;

/** Of the version that serves; an update that is under way goes before it. */
export const servingState = ({
  group,
  record,
  reports,
}: GroupSight): {
  readonly state: Exclude<GroupState, 'updating'>;
  readonly reason: string | null;
  readonly ready: number;
} => {
  const { minReplicas } = group.scaling;
  const own = reports.filter(({ versionId }) => versionId === record?.current.id);
  const { ready, starting, failed } = countsOf(own);
  const why = reasonOf(own);
  if (ready >= Math.max(1, minReplicas) && failed === 0) return { state: 'ready', reason: null, ready };
  if (ready > 0) {
    const short =
      ready < minReplicas ? `${ready} of ${plural(minReplicas)} ready` : `${plural(failed)} failed`;
    return { state: 'degraded', reason: `${short}${why === null ? '' : `: ${why}`}`, ready };
  }
  if (failed > 0 || (starting === 0 && why !== null))
    return { state: 'failed', reason: why ?? `${plural(failed)} failed`, ready };
  if (starting > 0) return { state: 'starting', reason: why, ready };
  if (minReplicas === 0) return { state: 'idle', reason: null, ready };
  return { state: 'starting', reason: 'no worker has begun to start it', ready };
};

const stateOf = (sight: GroupSight): { readonly state: GroupState; readonly reason: string | null } => {
  const { group } = sight;
  const serving = servingState(sight);
  if (group.next !== null) return { state: 'updating', reason: updateReason(sight) };
  const { failure } = group;
  const dropped =
    failure === null ? null : `the update to version ${failure.version} was rolled back: ${failure.reason}`;
  return { state: serving.state, reason: serving.reason ?? dropped };
};

const updateReason = ({ group, record, reports, now }: GroupSight): string | null => {
  const { next, scaling } = group;
  if (next === null) return null;
  const own = reports.filter(({ versionId }) => versionId === record?.staged?.id);
  const { readyTimeoutMs } = next.deployment;
  return rolloutDecision({
    reports: own,
    minReplicas: scaling.minReplicas,
    since: next.since,
    readyTimeoutMs,
    now,
  }).text;
};

const time = (at: number): string => new Date(at).toISOString();

const replicasOf = (
  record: FunctionRecord | undefined,
  reports: readonly ReplicaReport[],
): readonly ReplicaJson[] =>
  reports.flatMap(({ versionId, workerId, replicas = [] }) => {
    const version = record?.versions.find(({ id }) => id === versionId)?.spec.model?.version ?? null;
    return replicas.map((replica) => ({
      version,
      index: replica.index,
      state: replica.state,
      since: time(replica.since),
      reason: replica.reason,
      place: replica.place,
      devices: replica.devices,
      restarts: replica.restarts,
      running_rows: replica.runningRows,
      cpu_percent: replica.cpuPercent,
      memory_bytes: replica.memoryBytes,
      worker: workerId,
    }));
  });

const enginePart = ({
  deployment,
  engine,
}: Release): Pick<ScalingGroupJson, 'engine_selector' | 'engine' | 'predictor_env_var'> => ({
  engine_selector: deployment.engine == null ? null : presentSelector(deployment.engine),
  engine:
    engine == null
      ? null
      : {
          project: engine.project,
          name: engine.name,
          version: engine.version,
          predictor_env: engine.predictorEnv,
        },
  predictor_env_var: deployment.predictorEnv ?? {},
});

export const presentGroup = (sight: GroupSight): ScalingGroupJson => {
  const { group, record, reports } = sight;
  const { current, next, scaling } = group;
  const { state, reason } = stateOf(sight);
  const { deployment } = current;
  const batching = record?.current.spec.batching ?? current.batching;
  return {
    name: group.name,
    function: functionNameOf(group.name),
    model: current.model,
    version: current.version,
    requested_version: deployment.requested,
    backend: current.backend,
    state,
    reason: reason === null ? null : shortened(reason),
    paused: record?.paused ?? false,
    replicas: { ...countsOf(reports), details: replicasOf(record, reports) },
    update:
      next === null
        ? null
        : { version: next.version, since: time(next.since), reason: shortened(updateReason(sight) ?? '') },
    scaling: presentScaling(scaling),
    resources: presentResources(deployment.resources),
    env: deployment.env,
    image: deployment.image,
    handler: deployment.handler,
    on_startup: deployment.onStartup,
    entrypoint: deployment.entrypoint,
    port: deployment.port,
    skip_artifacts: deployment.skipsArtifacts,
    inputs: current.inputs,
    outputs: current.outputs,
    ...(batchingJson(batching) as Required<ReturnType<typeof batchingJson>>),
    retry: presentRetry(deployment.retry),
    isolation: deployment.isolation,
    call_timeout_ms: deployment.callTimeoutMs,
    ready_timeout_ms: deployment.readyTimeoutMs,
    ...enginePart(current),
    task: deployment.task ?? null,
    inference_store:
      deployment.inferenceStore == null ? null : presentInferenceStore(deployment.inferenceStore),
    events: group.events.map(({ at, kind, text }) => ({ at: time(at), kind, text })),
    created_at: time(group.createdAt),
    updated_at: time(group.updatedAt),
  };
};

/** The function of a group: an ordinary spec, made from a model version and what its deployment says (docs/decisions/0012). */
import type { FieldJson, FunctionSpec } from '../../shared/domain/function.ts';
import {
  type Backend,
  type ContainerSpec,
  functionNameOf,
  type ModelImage,
  type ModelVersion,
} from '../../shared/domain/model.ts';
import { checkTask } from '../../shared/wire/openai/task-shape.ts';
import { bagOf, refuse, refusedAs } from '../../shared/wire/option-bag.ts';
import type { Deployment } from '../../shared/wire/scaling-groups.ts';
import { BATCHING_OPTIONS, compileBatching, isContained } from '../../shared/wire/spec.ts';
import type { Ingredients } from './claims.ts';
import { checkHandled, engineServing, type Serving } from './engine-group-spec.ts';

/** The number of replicas is the function's `scaling`, so that changing it starts no replica again. */
const REPLICAS = { min: 1, max: 1 };

/** @throws SluiceError `invalid_scaling_group` when the deployment does not go with the versions */
export const groupSpec = (
  group: string,
  { version, engine }: Ingredients,
  deployment: Deployment,
): FunctionSpec =>
  refusedAs('invalid_scaling_group', () => {
    const serving =
      engine === null ? ownServing(version, deployment) : engineServing(version, engine, deployment);
    const spec: FunctionSpec = {
      name: functionNameOf(group),
      ...serving,
      inputMode: 'table',
      inputs: inputsOf(version.inputs),
      output: outputOf(version.outputs),
      batching: batchingOf(deployment, serving),
      retry: deployment.retry,
      isolation: deployment.isolation,
      callTimeoutMs: deployment.callTimeoutMs,
      replicas: REPLICAS,
      resources: deployment.resources,
      model: {
        name: version.model,
        version: version.version,
        files: deployment.skipsArtifacts ? [] : version.files,
        loader: engine === null ? version.loader : null,
      },
      ...taskOf(version, deployment),
      ...(deployment.inferenceStore == null ? {} : { inferenceStore: deployment.inferenceStore }),
    };
    return spec;
  });

/** By the version's class, or its image. */
const ownServing = (version: ModelVersion, deployment: Deployment): Serving => {
  checkHandled(version, deployment);
  const image = deployment.image ?? version.image;
  const backend = backendOf(image, deployment);
  if (image === null) checkPlain(deployment);
  const { dependencies } = version;
  return {
    runtime: image === null ? 'python' : 'container',
    handler: version.handler ?? { file: '', attribute: '' },
    environment: {
      base: null,
      steps: dependencies.length === 0 ? [] : [{ pip_install: dependencies }],
      env: deployment.env,
      isolated: dependencies.length > 0,
      interpreter: version.interpreter,
    },
    source: version.source,
    ...(image === null ? {} : { container: containerOf(image, deployment) }),
    ...(backend === 'process' ? {} : { backend }),
  };
};

const taskOf = (version: ModelVersion, { task }: Deployment): Pick<FunctionSpec, 'task'> => {
  if (task == null) return {};
  const inputs = version.inputs.map((field) => ({ ...field, nullable: true }));
  checkTask(task, inputs, outputOf(version.outputs).type);
  return { task };
};

const backendOf = (image: ModelImage | null, { backend }: Deployment): Backend => {
  if (image === null) return backend ?? 'process';
  if (backend === 'process')
    refuse(
      'backend',
      backend,
      '"container" or "kubernetes": the version is an image, which no process can run',
    );
  return backend ?? 'container';
};

/** What an image alone can honour. */
const checkPlain = ({ handler, onStartup, entrypoint }: Deployment): void => {
  const given = { handler, on_startup: onStartup, entrypoint };
  for (const [name, value] of Object.entries(given))
    if (value !== null) refuse(name, value, 'it with an image only, or null: this version is a Python class');
};

/** None: any columns. */
const inputsOf = (inputs: readonly FieldJson[]): FunctionSpec['inputs'] =>
  inputs.length === 0 ? null : inputs.map((field) => ({ ...field, nullable: true }));

/** One column: its type; several: a struct of them; none: whatever the engine answers, as JSON. */
const outputOf = (outputs: readonly FieldJson[]): FunctionSpec['output'] => {
  const [first] = outputs;
  if (first === undefined) return { type: 'json', nullable: true };
  const type = outputs.length === 1 ? first.type : { struct: outputs };
  return { type, nullable: true };
};

const batchingOf = ({ limits }: Deployment, serving: Serving): FunctionSpec['batching'] => {
  const members = {
    max_batching_size: limits.sizeRows,
    max_buffer_duration: limits.durationMs,
    ...(limits.bytesMax === null ? {} : { max_batch_bytes: limits.bytesMax }),
  };
  return compileBatching(bagOf(members, '', BATCHING_OPTIONS), isContained(serving));
};

const containerOf = (image: ModelImage, deployment: Deployment): ContainerSpec => ({
  image,
  entrypoint: deployment.entrypoint,
  port: deployment.port,
  handler: deployment.handler,
  onStartup: deployment.onStartup,
});

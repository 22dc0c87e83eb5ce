/** The function of a group: an ordinary spec, made from a model version and what its deployment says (docs/decisions/0012). */
import type { FieldJson, FunctionSpec } from '../../shared/domain/function.ts';
import type { Backend, ContainerSpec, ModelImage, ModelVersion } from '../../shared/domain/model.ts';
import { checkTask } from '../../shared/wire/openai/task-shape.ts';
import { bagOf, refuse, refusedAs } from '../../shared/wire/option-bag.ts';
import type { Deployment } from '../../shared/wire/scaling-groups.ts';
import { BATCHING_OPTIONS, compileBatching, isContained } from '../../shared/wire/spec.ts';
import { functionNameOf } from './group-records.ts';

/** The number of replicas is the function's `scaling`, so that changing it starts no replica again. */
const REPLICAS = { min: 1, max: 1 };

/** @throws SluiceError `invalid_scaling_group` when the deployment does not go with the version */
export const groupSpec = (group: string, version: ModelVersion, deployment: Deployment): FunctionSpec =>
  refusedAs('invalid_scaling_group', () => {
    const image = deployment.image ?? version.image;
    const backend = backendOf(image, deployment);
    const runtime = image === null ? 'python' : 'container';
    if (image === null) checkPlain(deployment);
    const { dependencies } = version;
    const spec: FunctionSpec = {
      name: functionNameOf(group),
      runtime,
      handler: version.handler ?? { file: '', attribute: '' },
      inputMode: 'table',
      inputs: version.inputs.map((field) => ({ ...field, nullable: true })),
      output: outputOf(version.outputs),
      batching: batchingOf(deployment, backend),
      retry: deployment.retry,
      isolation: deployment.isolation,
      callTimeoutMs: deployment.callTimeoutMs,
      replicas: REPLICAS,
      resources: deployment.resources,
      environment: {
        base: null,
        steps: dependencies.length === 0 ? [] : [{ pip_install: dependencies }],
        env: deployment.env,
        isolated: dependencies.length > 0,
        interpreter: version.interpreter,
      },
      source: version.source,
      model: {
        name: version.model,
        version: version.version,
        files: deployment.skipsArtifacts ? [] : version.files,
        loader: version.loader,
      },
      ...(image === null ? {} : { container: containerOf(image, deployment) }),
      ...(backend === 'process' ? {} : { backend }),
      ...taskOf(version, deployment),
    };
    return spec;
  });

const taskOf = (version: ModelVersion, { task }: Deployment): Pick<FunctionSpec, 'task'> => {
  if (task == null) return {};
  checkTask(task, version.inputs, outputOf(version.outputs).type);
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

/** One column: its type; several: a struct of them. */
const outputOf = (outputs: readonly FieldJson[]): FunctionSpec['output'] => {
  const [first] = outputs;
  const type = outputs.length === 1 ? first!.type : { struct: outputs };
  return { type, nullable: true };
};

const batchingOf = ({ limits }: Deployment, backend: Backend): FunctionSpec['batching'] => {
  const members = {
    max_batching_size: limits.sizeRows,
    max_buffer_duration: limits.durationMs,
    ...(limits.bytesMax === null ? {} : { max_batch_bytes: limits.bytesMax }),
  };
  return compileBatching(bagOf(members, '', BATCHING_OPTIONS), isContained({ backend }));
};

const containerOf = (image: ModelImage, deployment: Deployment): ContainerSpec => ({
  image,
  entrypoint: deployment.entrypoint,
  port: deployment.port,
  handler: deployment.handler,
  onStartup: deployment.onStartup,
});

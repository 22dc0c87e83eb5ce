/** What an inference engine brings to the function of a group (docs/decisions/0015). */
import type { EngineVersion } from '../../shared/domain/engine.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import type { ModelVersion } from '../../shared/domain/model.ts';
import { installedEngine } from '../../shared/wire/engines.ts';
import { castPredictorValues } from '../../shared/wire/engines-variables.ts';
import { refuse } from '../../shared/wire/option-bag.ts';
import type { Deployment } from '../../shared/wire/scaling-groups.ts';
import type { ReleasedEngine } from './group-records.ts';

/** How the rows of a function's batches are served. */
export type Serving = Pick<
  FunctionSpec,
  'runtime' | 'handler' | 'environment' | 'source' | 'container' | 'engine' | 'backend'
>;

/** @throws SluiceError `invalid_function` where engine, version and deployment do not go together */
export const engineServing = (
  version: ModelVersion,
  engine: EngineVersion,
  deployment: Deployment,
): Serving => {
  checkAlone(version, deployment);
  const { spec, backend } = installedEngine(engine, {
    model: version,
    backend: deployment.backend,
    resources: deployment.resources,
    values: deployment.predictorEnv ?? {},
  });
  return {
    runtime: 'http',
    handler: { file: '', attribute: '' },
    environment: { base: null, steps: [], env: {}, isolated: false, interpreter: null },
    source: [],
    engine: spec,
    ...(backend === 'process' ? {} : { backend }),
  };
};

/** What is kept of the engine with the release. */
export const releasedEngine = (engine: EngineVersion, { predictorEnv = {} }: Deployment): ReleasedEngine => ({
  project: engine.project,
  name: engine.name,
  version: engine.version,
  predictorEnv: castPredictorValues(predictorEnv, engine, 'predictor_env_var'),
});

/** An engine is image, command and variables; the other ways to say these are for versions that serve themselves. */
const checkAlone = ({ model, image }: ModelVersion, deployment: Deployment): void => {
  if (image !== null)
    refuse('engine_selector', deployment.engine?.name, `null: ${model} is an image, which serves itself`);
  const { handler, onStartup, entrypoint, env } = deployment;
  const given = { image: deployment.image, handler, on_startup: onStartup, entrypoint };
  for (const [name, value] of Object.entries(given))
    if (value !== null) refuse(name, value, 'null: the engine has its own');
  if (Object.keys(env).length > 0) refuse('env', env, 'variables of the engine by predictor_env_var');
};

/** @throws SluiceError `invalid_function` where nothing serves the version by itself */
export const checkHandled = ({ model, handler, image }: ModelVersion, deployment: Deployment): void => {
  if (Object.keys(deployment.predictorEnv ?? {}).length > 0)
    refuse(
      'predictor_env_var',
      deployment.predictorEnv,
      'variables by env: without engine_selector there is no predictor',
    );
  if (handler === null && image === null && deployment.image === null)
    refuse('engine_selector', null, `the engine that serves ${model}, which was imported without a handler`);
};

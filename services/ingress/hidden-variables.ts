/** Environment variables hold tokens as often as not: whoever may only call reads their names. */
import type { FunctionJson } from '../../shared/wire/api.ts';
import type { EngineVersionJson } from '../../shared/wire/engines-api.ts';
import type { ModelImageJson, ModelVersionJson, ScalingGroupJson } from '../../shared/wire/model-api.ts';
import type { Identity } from './guard.ts';

/** In place of every value. */
const HIDDEN = '***';

const hidden = (variables: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.keys(variables).map((name) => [name, HIDDEN]));

/** A Containerfile sets variables too. */
const hiddenImage = <T extends ModelImageJson | null>(image: T): T =>
  image !== null && 'containerfile' in image ? { ...image, containerfile: HIDDEN } : image;

const mayDeploy = ({ isAdmin, scopes }: Identity): boolean => isAdmin || scopes.has('deploy');

export const functionFor = (reader: Identity, view: FunctionJson): FunctionJson => {
  if (mayDeploy(reader)) return view;
  const { engine, container } = view.spec;
  const environment = { ...view.spec.environment, env: hidden(view.spec.environment?.env) };
  const served = engine == null ? {} : { engine: { ...engine, env: hidden(engine.env) } };
  const boxed =
    container === undefined ? {} : { container: { ...container, image: hiddenImage(container.image) } };
  return { ...view, spec: { ...view.spec, environment, ...served, ...boxed } };
};

export const groupFor = (reader: Identity, view: ScalingGroupJson): ScalingGroupJson => {
  if (mayDeploy(reader)) return view;
  const { engine } = view;
  return {
    ...view,
    env: hidden(view.env),
    image: hiddenImage(view.image),
    engine: engine && { ...engine, predictor_env: hidden(engine.predictor_env) },
    predictor_env_var: hidden(view.predictor_env_var),
  };
};

export const engineFor = (reader: Identity, view: EngineVersionJson): EngineVersionJson =>
  mayDeploy(reader) ? view : { ...view, env: hidden(view.env) };

export const versionFor = (reader: Identity, view: ModelVersionJson): ModelVersionJson =>
  mayDeploy(reader) ? view : { ...view, image: hiddenImage(view.image) };

/** Environment variables hold tokens as often as not: whoever may only call reads their names. */
import type { FunctionJson } from '../../shared/wire/api.ts';
import type { ScalingGroupJson } from '../../shared/wire/model-api.ts';
import type { Identity } from './guard.ts';

/** In place of every value. */
const HIDDEN = '***';

type Variables = Readonly<Record<string, string>>;

const hidden = (variables: Variables = {}): Variables =>
  Object.fromEntries(Object.keys(variables).map((name) => [name, HIDDEN]));

const mayDeploy = ({ isAdmin, scopes }: Identity): boolean => isAdmin || scopes.has('deploy');

export const functionFor = (reader: Identity, view: FunctionJson): FunctionJson => {
  if (mayDeploy(reader)) return view;
  const environment = { ...view.spec.environment, env: hidden(view.spec.environment?.env) };
  return { ...view, spec: { ...view.spec, environment } };
};

export const groupFor = (reader: Identity, view: ScalingGroupJson): ScalingGroupJson =>
  mayDeploy(reader) ? view : { ...view, env: hidden(view.env) };

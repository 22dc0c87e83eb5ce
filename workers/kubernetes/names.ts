/** What the objects of one function version are called in a cluster, and the labels by which they are found again. */
import type { FunctionVersion } from '../../shared/domain/function.ts';

/** Of whoever applies: all workers of all processes are one, so that they never conflict with each other. */
export const FIELD_MANAGER = 'sluice';
/**
 * Of `spec.replicas` alone. An autoscaler must be able to take the field over, and a field that its only manager leaves
 * out falls back to its default: with a manager of its own the number outlives what we apply.
 */
export const REPLICAS_MANAGER = 'sluice-replicas';

/**
 * A Deployment's pods are called after it with 17 characters more, and a pod's name of 63 characters is its host name as a
 * whole; KEDA puts nine before it.
 */
const NAME_MAX = 46;
const PREFIX = 'sluice-';

const slugOf = (name: string, max: number): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, max)
    .replace(/^-+|-+$/g, '');

/** The same for a version in every process. The digest covers the function's name: cutting a long one confuses nothing. */
export const objectName = ({ spec, digest }: FunctionVersion): string => {
  const roomFor = NAME_MAX - PREFIX.length - digest.length - 1;
  const slug = slugOf(spec.name.replace(/^model\./, ''), roomFor);
  return [`${PREFIX}${slug}`.replace(/-$/, ''), digest].join('-');
};

export const LABEL = {
  managedBy: 'app.kubernetes.io/managed-by',
  name: 'app.kubernetes.io/name',
  function: 'sluice/function',
  version: 'sluice/version',
} as const;

export const ANNOTATION = { function: 'sluice/function', model: 'sluice/model' } as const;

/** A label's value has 63 characters; the whole name of a function stands in the annotation. */
const labelValue = (text: string): string => text.slice(0, 63).replace(/[^A-Za-z0-9]+$/, '');

export type Labels = Readonly<Record<string, string>>;

/** What a Deployment selects by may never change: these are derived from the version alone. */
export const selectorLabels = (version: FunctionVersion): Labels => ({
  [LABEL.function]: labelValue(version.spec.name),
  [LABEL.version]: version.digest,
});

export const objectLabels = (version: FunctionVersion): Labels => ({
  [LABEL.managedBy]: FIELD_MANAGER,
  [LABEL.name]: objectName(version),
  ...selectorLabels(version),
});

export const selectorText = (labels: Labels): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');

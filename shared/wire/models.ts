/** Models and their versions: what a registration says into the domain's words, and back. */
import type { FieldJson } from '../domain/function.ts';
import type { Model, ModelVersion } from '../domain/model.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import { modelFilesOf, sourceOf } from './files.ts';
import type { ModelJson, ModelVersionJson } from './model-api.ts';
import { importOf, presentImport } from './model-import.ts';
import { imageOf, loaderOf, MODEL_NAME, MODEL_NAME_RULE, VERSIONS_MAX } from './model-members.ts';
import { type Bag, bagOf, refuse, refusedAs } from './option-bag.ts';
import { fieldsOf, handlerIn, outputType } from './spec.ts';

/** A virtual environment with more is described by a file. */
const DEPENDENCIES_MAX = 1000;
const METADATA_ENTRIES_MAX = 100;
const METADATA_BYTES_MAX = 64 * 1024;
const DESCRIPTION_MAX = 10_000;
const ALIASES_MAX = 100;
const ALIAS = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;
const STAGE = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;

/** A registration before it has a number. */
export type Registration = Omit<ModelVersion, 'model' | 'version' | 'createdAt'> & {
  readonly aliases: readonly string[];
};

const REGISTRATION = [
  'inputs',
  'outputs',
  'handler',
  'source',
  'files',
  'loader',
  'dependencies',
  'interpreter',
  'image',
  'metadata',
  'stage',
  'aliases',
  'import',
] as const;

const invalid = <T>(check: () => T): T => refusedAs('invalid_model', check);

/** @throws SluiceError `invalid_model` */
export const compileRegistration = (value: unknown): Registration =>
  invalid(() => {
    const bag = bagOf(value, '', REGISTRATION);
    const image = imageOf(bag.raw('image'), 'image');
    const hasHandler = (bag.raw('handler') ?? null) !== null;
    const source = sourceOf(bag, hasHandler);
    const imported = importOf(bag.raw('import'));
    if (!hasHandler && image === null && imported === null)
      refuse(
        'handler',
        bag.raw('handler'),
        'the class that serves it, an image that has its own handler, or an import that an engine serves',
      );
    const isAnything = (value: unknown): boolean =>
      imported !== null && (value == null || (Array.isArray(value) && value.length === 0));
    const [inputs, outputs] = [bag.raw('inputs'), bag.raw('outputs')];
    return {
      inputs: isAnything(inputs) ? [] : fieldsOf(inputs, 'inputs', true),
      outputs: isAnything(outputs) ? [] : outputsOf(outputs),
      handler: hasHandler ? handlerIn(bag.bag('handler', ['file', 'attribute']), source) : null,
      source,
      files: modelFilesOf(bag.raw('files'), 'files'),
      loader: loaderOf(bag.raw('loader'), 'loader'),
      dependencies: dependenciesOf(bag),
      interpreter: bag.optionalText('interpreter', 4096),
      image,
      metadata: metadataOf(bag.raw('metadata')),
      stage: stageOf(bag.raw('stage')),
      aliases: [
        ...new Set(bag.list('aliases', ALIASES_MAX).map((alias, i) => aliasOf(alias, `aliases[${i}]`))),
      ],
      ...(imported === null ? {} : { import: imported }),
    };
  });

const outputsOf = (value: unknown): readonly FieldJson[] => {
  const fields = fieldsOf(value, 'outputs', true);
  fields.forEach(({ type }, i) => {
    outputType(type, `outputs[${i}].type`);
  });
  return fields;
};

/** pip takes what begins with - for an option: an index, a file to read requirements from. */
const dependenciesOf = (bag: Bag): readonly string[] => {
  const dependencies = bag.texts('dependencies', DEPENDENCIES_MAX);
  const index = dependencies.findIndex((text) => /^\s*-|[\0\r\n]/.test(text));
  if (index >= 0)
    refuse(`dependencies[${index}]`, dependencies[index], 'a requirement such as scikit-learn==1.7');
  return dependencies;
};

const metadataOf = (value: unknown): Readonly<Record<string, string>> => {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value))
    return refuse('metadata', value, 'an object of strings');
  const entries = Object.entries(value as Record<string, unknown>);
  if (entries.length > METADATA_ENTRIES_MAX)
    refuse('metadata', `${entries.length} entries`, `at most ${METADATA_ENTRIES_MAX}`);
  for (const [name, text] of entries)
    if (typeof text !== 'string') refuse(`metadata.${name.slice(0, 256)}`, text, 'a string');
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes > METADATA_BYTES_MAX)
    refuse('metadata', `${bytes} bytes of JSON`, `at most ${METADATA_BYTES_MAX}`);
  return Object.fromEntries(entries) as Record<string, string>;
};

const stageOf = (value: unknown): string | null => {
  if (value === undefined || value === null) return null;
  return typeof value === 'string' && STAGE.test(value)
    ? value
    : refuse('stage', value, 'a word of at most 64 letters, digits, _ . and -, or null');
};

const aliasOf = (value: unknown, where: string): string => {
  if (typeof value !== 'string' || !ALIAS.test(value))
    return refuse(where, value, 'letters, digits, _ . and -, beginning with a letter, at most 64');
  if (value === 'latest') return refuse(where, value, 'another alias: latest is always the newest version');
  return value;
};

/** @throws SluiceError `invalid_model` */
export const compileAlias = (value: unknown): string => invalid(() => aliasOf(value, 'alias'));

/** @throws SluiceError `invalid_model` */
export const compileAliasTarget = (value: unknown): number =>
  invalid(() => bagOf(value, '', ['version']).integer('version', 1, VERSIONS_MAX));

/** @throws SluiceError `invalid_model` */
export const compileModelName = (value: unknown): string =>
  invalid(() =>
    typeof value === 'string' && MODEL_NAME.test(value) ? value : refuse('model', value, MODEL_NAME_RULE),
  );

/** @throws SluiceError `invalid_model` */
export const compileModelPatch = (value: unknown): { readonly description: string } =>
  invalid(() => ({ description: bagOf(value, '', ['description']).text('description', 0, DESCRIPTION_MAX) }));

export type VersionPatch = {
  readonly stage?: string | null;
  readonly metadata?: Readonly<Record<string, string>>;
};

/** @throws SluiceError `invalid_model` */
export const compileVersionPatch = (value: unknown): VersionPatch =>
  invalid(() => {
    const bag = bagOf(value, '', ['stage', 'metadata']);
    const [stage, metadata] = [bag.raw('stage'), bag.raw('metadata')];
    if (stage === undefined && metadata === undefined) refuse('stage', undefined, 'stage, metadata, or both');
    return {
      ...(stage === undefined ? {} : { stage: stageOf(stage) }),
      ...(metadata === undefined ? {} : { metadata: metadataOf(metadata) }),
    };
  });

export type VersionReference = number | 'latest' | { readonly alias: string };

/** What a URL or a deployment calls a version by; null: no version can be called so. */
export const versionReference = (value: unknown): VersionReference | null => {
  if (value === null || value === undefined || value === 'latest') return 'latest';
  const number = typeof value === 'string' && /^[1-9]\d{0,9}$/.test(value) ? Number(value) : value;
  if (typeof number === 'number')
    return Number.isInteger(number) && number >= 1 && number <= VERSIONS_MAX ? number : null;
  return typeof value === 'string' && ALIAS.test(value) ? { alias: value } : null;
};

/** @throws SluiceError `model_not_found` */
export const noSuchVersion = (model: string, wanted: unknown, known: string): SluiceError =>
  new SluiceError(
    'model_not_found',
    `The model ${JSON.stringify(model.slice(0, 100))} has no version ${JSON.stringify(wanted)?.slice(0, 80)}; ${known}.`,
    { field: 'version' },
  );

const time = (at: number): string => new Date(at).toISOString();

export const presentModel = (model: Model): ModelJson => ({
  name: model.name,
  description: model.description,
  latest_version: model.versions.at(-1) ?? null,
  versions: model.versions,
  aliases: model.aliases,
  created_at: time(model.createdAt),
  updated_at: time(model.updatedAt),
});

/** @param isWhole with the source */
export const presentVersion = (
  version: ModelVersion,
  aliases: readonly string[],
  usedBy: readonly string[],
  isWhole: boolean,
): ModelVersionJson => ({
  model: version.model,
  version: version.version,
  inputs: version.inputs,
  outputs: version.outputs,
  handler: version.handler,
  ...(isWhole ? { source: version.source } : {}),
  files: version.files,
  loader: version.loader,
  dependencies: version.dependencies,
  interpreter: version.interpreter,
  image: version.image,
  metadata: version.metadata,
  stage: version.stage,
  ...(version.import === undefined ? {} : { import: presentImport(version.import) }),
  aliases,
  used_by: usedBy,
  created_at: time(version.createdAt),
});

/** `sluice models catalog` and `sluice models add`: curated models registered and deployed. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ModelFileJson, ModelVersionJson, RegistrationJson, Sluice } from '../../sdk/index.ts';
import { ignoredLine, ignoredOf } from '../deploy/ignored-options.ts';
import { interpreterFor } from '../deploy/python-manifest.ts';
import { printJson, printTable } from '../print.ts';
import {
  CATALOG_FOLDER,
  type CuratedModel,
  type CuratedVariant,
  curatedVariant,
  readCatalog,
  type VariantName,
} from './curated-models.ts';
import { fieldList } from './group-views.ts';
import { waitForGroup } from './group-wait.ts';
import { withWheel } from './package-files.ts';
import { uploadFile } from './register-file.ts';

export type AddRequest = {
  readonly variant: VariantName;
  readonly group: string | null;
  readonly python: string | null;
  readonly isWaiting: boolean;
  readonly isJson: boolean;
};

/** What `loader` of a class is for the Python package. */
const LOADER_VERSION = 1;
/** Metadata that says which entry of the catalog, in which state, a version was made of. */
const MARK = 'catalog_digest';
const VERSIONS_LOOKED_AT = 100;

export const printCatalog = (isJson: boolean): void => {
  const models = readCatalog();
  if (isJson) printJson({ models });
  else printModels(models);
};

const printModels = (models: readonly CuratedModel[]): void =>
  printTable(
    ['MODEL', 'VARIANTS', 'INPUTS', 'LICENCE', 'DESCRIPTION'],
    models.map(({ name, variants, inputs, licence, description }) => [
      name,
      Object.keys(variants).join(', '),
      fieldList(inputs),
      licence,
      description,
    ]),
  );

const sourceOf = (variant: CuratedVariant): Promise<NonNullable<RegistrationJson['source']>> =>
  Promise.all(
    Object.entries(variant.source).map(async ([name, file]) => ({
      path: name,
      content: (await readFile(path.join(CATALOG_FOLDER, file))).toString('base64'),
    })),
  );

/** Everything but the files, whose digests follow from that of the package. */
const registrationOf = async (
  model: CuratedModel,
  name: VariantName,
  variant: CuratedVariant,
): Promise<RegistrationJson> => {
  const registration: RegistrationJson = {
    inputs: model.inputs,
    outputs: model.outputs,
    handler: variant.handler,
    source: await sourceOf(variant),
    loader: {
      version: LOADER_VERSION,
      module: null,
      is_bare: false,
      outputs: model.outputs,
      files: Object.keys(variant.package?.files ?? {}),
      attributes: {},
      model: null,
    },
    dependencies: variant.dependencies,
    image: variant.image ? { reference: `${variant.image.reference}@${variant.image.digest}` } : null,
  };
  const mark = createHash('sha256')
    .update(JSON.stringify([registration, variant.package]))
    .digest('hex');
  const metadata = {
    catalog: `${model.name} ${name}`,
    licence: model.licence,
    homepage: model.homepage,
    ...(variant.package
      ? { package: `${variant.package.name}==${variant.package.version} ${variant.package.digest}` }
      : {}),
    [MARK]: mark,
  };
  return { ...registration, metadata };
};

const registeredBefore = async (
  client: Sluice,
  model: CuratedModel,
  mark: string,
): Promise<ModelVersionJson | undefined> => {
  const models = await client.models.list();
  if (!models.some(({ name }) => name === model.name)) return undefined;
  const versions = await client.models.versions(model.name, { limit: VERSIONS_LOOKED_AT });
  return versions.find(({ metadata }) => metadata[MARK] === mark);
};

const filesOf = async (
  client: Sluice,
  variant: CuratedVariant,
  python: string,
): Promise<readonly ModelFileJson[]> => {
  if (!variant.package) return [];
  const { files } = variant.package;
  return withWheel(python, variant.package, async (folder) => {
    const uploaded: ModelFileJson[] = [];
    for (const [name, inside] of Object.entries(files))
      uploaded.push(await uploadFile(client, path.join(folder, inside), name));
    return uploaded;
  });
};

export const addModel = async (
  connected: () => Promise<Sluice>,
  name: string,
  request: AddRequest,
): Promise<void> => {
  const { model, variant } = curatedVariant(name, request.variant);
  const client = await connected();
  const python = interpreterFor(path.resolve('catalog'), request.python);
  const registration = await registrationOf(model, request.variant, variant);
  let version = await registeredBefore(client, model, registration.metadata![MARK]!);
  if (version === undefined) {
    const files = await filesOf(client, variant, python);
    version = await client.models.register(name, { ...registration, files });
    if (version.version === 1) await client.models.describe(name, model.description);
  }
  process.stderr.write(`${name} (${request.variant}) is version ${version.version}\n`);
  const group = request.group ?? (request.variant === 'gpu' ? `${name}-gpu` : name);
  const begun = await client.scalingGroups.deploy(group, {
    model: name,
    version: version.version,
    resources: variant.resources,
    env: variant.env,
    ...(model.task === undefined ? {} : { task: model.task }),
    ...variant.batching,
  });
  const deployed = request.isWaiting ? await waitForGroup(client, begun) : begun;
  if (request.isJson) return printJson({ version, group: deployed });
  if (request.isWaiting)
    for (const option of await ignoredOf(client, deployed.function))
      process.stderr.write(ignoredLine(deployed.name, option));
  process.stdout.write(
    `${deployed.function} is ${request.isWaiting ? 'ready' : 'on its way'}; try: sluice call ${deployed.function} ${model.inputs.map((field) => `${field.name}=…`).join(' ')}\n`,
  );
};

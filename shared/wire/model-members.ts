/** The members of a function's spec that a model brings: the version that it serves, and the container that it runs as. */
import type { Backend, ContainerSpec, ModelBinding, ModelImage, ModelLoader } from '../domain/model.ts';
import { modelFilesOf } from './files.ts';
import { type Bag, bagOf, refuse } from './option-bag.ts';

/** A name goes into URLs, metrics and directories; that of a group gets `model.` before it. */
export const MODEL_NAME = /^[A-Za-z][A-Za-z0-9_.-]{0,99}$/;
export const MODEL_NAME_RULE = 'letters, digits, _ . and -, beginning with a letter, at most 100';
export const VERSIONS_MAX = 2 ** 31 - 1;
export const BACKENDS = ['process', 'container', 'kubernetes'] as const satisfies readonly Backend[];

/** The server stores it and reads nothing of it; weights are artifacts. */
const LOADER_BYTES_MAX = 2 ** 20;
const LOADER_DEPTH_MAX = 64;
const CONTAINERFILE_MAX = 2 ** 20;
const ENTRYPOINT_MAX = 256;
const PORT = 8080;
/** An image by its name. */
export const REFERENCE = /^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$/;
const ATTRIBUTE = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$/;

const depthOf = (value: unknown, left: number): boolean => {
  if (typeof value !== 'object' || value === null) return true;
  return left > 0 && Object.values(value).every((member) => depthOf(member, left - 1));
};

export const loaderOf = (value: unknown, where: string): ModelLoader | null => {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'object' || Array.isArray(value)) return refuse(where, value, 'an object, or null');
  if (!depthOf(value, LOADER_DEPTH_MAX))
    return refuse(where, 'deeper', `an object of at most ${LOADER_DEPTH_MAX} levels`);
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes > LOADER_BYTES_MAX)
    return refuse(where, `${bytes} bytes of JSON`, `at most ${LOADER_BYTES_MAX}; weights are files`);
  return value as ModelLoader;
};

export const imageOf = (value: unknown, where: string): ModelImage | null => {
  if (value === undefined || value === null) return null;
  const bag = bagOf(value, where, ['reference', 'containerfile', 'context']);
  const isBuilt = bag.raw('containerfile') !== undefined;
  if (isBuilt === (bag.raw('reference') !== undefined))
    return refuse(where, value, 'either reference, or containerfile with context');
  if (isBuilt)
    return {
      containerfile: bag.text('containerfile', 1, CONTAINERFILE_MAX),
      context: modelFilesOf(bag.raw('context'), `${where}.context`),
    };
  if (bag.raw('context') !== undefined)
    return refuse(`${where}.context`, bag.raw('context'), 'it with a containerfile only');
  return { reference: bag.pattern('reference', REFERENCE, 'an image such as registry/name:tag') };
};

/** `module.attribute` */
const attributeOf = (bag: Bag, name: string): string | null =>
  (bag.raw(name) ?? null) === null
    ? null
    : bag.pattern(name, ATTRIBUTE, 'module.attribute, such as model.handler');

export type ContainerStart = Omit<ContainerSpec, 'image'>;

/** How a container is started: in a spec's `container`, and in a deployment itself. */
export const containerStartOf = (bag: Bag): ContainerStart => {
  const entrypoint =
    (bag.raw('entrypoint') ?? null) === null ? null : bag.texts('entrypoint', ENTRYPOINT_MAX);
  if (entrypoint?.length === 0) refuse('entrypoint', entrypoint, 'a command and its arguments, or null');
  return {
    entrypoint,
    port: (bag.raw('port') ?? null) === null ? PORT : bag.integer('port', 1, 65_535),
    handler: attributeOf(bag, 'handler'),
    onStartup: attributeOf(bag, 'on_startup'),
  };
};

export const containerOf = (value: unknown): ContainerSpec | null => {
  if (value === undefined || value === null) return null;
  const bag = bagOf(value, 'container', ['image', 'entrypoint', 'port', 'handler', 'on_startup']);
  const image = imageOf(bag.raw('image'), 'container.image');
  if (image === null) return refuse('container.image', bag.raw('image'), 'an image');
  return { image, ...containerStartOf(bag) };
};

export const bindingOf = (value: unknown): ModelBinding | null => {
  if (value === undefined || value === null) return null;
  const bag = bagOf(value, 'model', ['name', 'version', 'files', 'loader']);
  return {
    name: bag.pattern('name', MODEL_NAME, MODEL_NAME_RULE),
    version: bag.integer('version', 1, VERSIONS_MAX),
    files: modelFilesOf(bag.raw('files'), 'model.files'),
    loader: loaderOf(bag.raw('loader'), 'model.loader'),
  };
};

export const presentContainer = (container: ContainerSpec) => ({
  image: container.image,
  entrypoint: container.entrypoint,
  port: container.port,
  handler: container.handler,
  on_startup: container.onStartup,
});

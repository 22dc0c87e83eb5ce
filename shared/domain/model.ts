/** The words of models: what a registration stores and what a function that serves a model version carries. */
import type { FieldJson, SourceFile } from './function.ts';

/** What a scaling group's function is called: `model.<group>`. No other function's name begins so. */
const GROUP_FUNCTION_PREFIX = 'model.';
export const functionNameOf = (group: string): string => `${GROUP_FUNCTION_PREFIX}${group}`;
/** null: the function is nobody's group. */
export const groupNameOf = (functionName: string): string | null =>
  functionName.startsWith(GROUP_FUNCTION_PREFIX) ? functionName.slice(GROUP_FUNCTION_PREFIX.length) : null;

/** `sha256:` and 64 hex digits of the bytes. */
export type Digest = string;

/** One artifact under its path in the model's directory. */
export type ModelFile = { readonly path: string; readonly digest: Digest; readonly bytes: number };

/** How the Python package serves the class; the server stores and hands it over, and reads nothing of it. */
export type ModelLoader = Readonly<Record<string, unknown>>;

/** An image that was built elsewhere, or what one is built from. */
export type ModelImage =
  | { readonly reference: string }
  | { readonly containerfile: string; readonly context: readonly ModelFile[] };

/** What of a model version a function's spec carries. */
export type ModelBinding = {
  readonly name: string;
  readonly version: number;
  readonly files: readonly ModelFile[];
  readonly loader: ModelLoader | null;
};

/** How a function whose runtime is `container` is started. */
export type ContainerSpec = {
  readonly image: ModelImage;
  /** The command in place of the image's own; null: its own. */
  readonly entrypoint: readonly string[] | null;
  /** Where its RemoteCallService listens. */
  readonly port: number;
  /** `module.attribute` of a handler in the image: our entrypoint is put into the container and serves it. */
  readonly handler: string | null;
  readonly onStartup: string | null;
};

export type Backend = 'process' | 'container' | 'kubernetes';

/** What an imported model is called in the world of its inference engine. */
export type ModelImport = {
  readonly project: string;
  readonly summary: string;
  /** The importer's own word; versions are told apart by their numbers. */
  readonly version: string | null;
  readonly taskType: string | null;
  /** label → index in the model's answers */
  readonly classLabels: Readonly<Record<string, number>>;
};

/** A registered version: immutable but for `stage` and `metadata`. */
export type ModelVersion = {
  readonly model: string;
  /** 1, 2, 3 … */
  readonly version: number;
  /** Empty, of imported ones only: any columns. */
  readonly inputs: readonly FieldJson[];
  /** Empty, of imported ones only: JSON. */
  readonly outputs: readonly FieldJson[];
  /** null with an image that has its own handler. */
  readonly handler: { readonly file: string; readonly attribute: string } | null;
  readonly source: readonly SourceFile[];
  readonly files: readonly ModelFile[];
  readonly loader: ModelLoader | null;
  readonly dependencies: readonly string[];
  /** Absolute path of the interpreter that registered it, for versions without dependencies. */
  readonly interpreter: string | null;
  readonly image: ModelImage | null;
  readonly stage: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  /** Left out by what was not imported. Only an inference engine serves what has neither handler nor image. */
  readonly import?: ModelImport;
  readonly createdAt: number;
};

export type Model = {
  readonly name: string;
  readonly description: string;
  /** Numbers of the versions that are there, ascending. */
  readonly versions: readonly number[];
  /** alias → version number */
  readonly aliases: Readonly<Record<string, number>>;
  readonly createdAt: number;
  readonly updatedAt: number;
};

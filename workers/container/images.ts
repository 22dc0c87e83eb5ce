/**
 * The image of a version: one that is here, pulled or built; with what our entry point needs, where it is to be served by it.
 *
 *   reference ──here? else pull──► image ──needs nothing, or has it──► image
 *   containerfile ──built once──┘      └── packages missing: built on top of it, once
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FunctionSpec, ImageStep } from '../../shared/domain/function.ts';
import type { ModelImage } from '../../shared/domain/model.ts';
import type { ModelFolders } from '../backend.ts';
import type { Served } from '../served.ts';
import { buildArgs } from './options.ts';
import { mountFlag, packageIn } from './run-command.ts';
import type { ContainerTool } from './tool.ts';

/** Imports in a container that begins with nothing in memory. */
const IMPORT_MS_MAX = 300_000;
/** What our entry point and the package around it need. */
const PACKAGES = ['grpcio>=1.62', 'protobuf>=5', 'pyarrow>=17', 'tqdm>=4.66', 'urllib3>=2.2'];
/** What a server of ours imports before it loads the user's code; models are served by more. */
const HANDLER_MODULES = 'import sluice.remote_call.server';
const MODEL_MODULES = `${HANDLER_MODULES}, sluice.models.serving`;
/** Letters of a digest in a tag. */
const DIGEST_LETTERS = 24;

export type ImagesOptions = {
  readonly tool: ContainerTool;
  readonly args: readonly string[];
  readonly models: ModelFolders;
  /** Directory that holds the package `sluice`. */
  readonly pythonPath: string;
};

export type ImageConfig = { readonly entrypoint: readonly string[]; readonly command: readonly string[] };

type OnLine = (text: string) => void;

const digestOf = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, DIGEST_LETTERS);

/** The exec form, which no shell reads: a package's name is only ever an argument. */
const runLine = (...command: readonly string[]): string => `RUN ${JSON.stringify(command)}`;
/** Also where a distribution keeps its Python to itself: this one is the image's own. */
const PIP = [
  ...['env', 'PIP_BREAK_SYSTEM_PACKAGES=1', 'PIP_ROOT_USER_ACTION=ignore'],
  ...['python3', '-m', 'pip', 'install'],
  '--no-cache-dir',
  '--disable-pip-version-check',
];

const stepLine = (step: ImageStep): string => {
  if ('run' in step) return runLine('/bin/sh', '-c', step.run);
  if ('pip_install' in step) return runLine(...PIP, ...step.pip_install);
  const packages = step.apt_install.map((name) => `'${name.replaceAll("'", "'\\''")}'`).join(' ');
  return runLine('/bin/sh', '-c', `apt-get update && apt-get install -y --no-install-recommends ${packages}`);
};

/** Python without pip is common in images that were made small. */
const WITH_PIP = runLine('/bin/sh', '-c', 'python3 -m pip --version || python3 -m ensurepip');

export class Images {
  readonly #options: ImagesOptions;
  /** By tag, so that replicas that start together build once. */
  readonly #built = new Map<string, Promise<string>>();

  constructor(options: ImagesOptions) {
    this.#options = options;
  }

  /**
   * The name of the image as it was declared.
   * @throws Error when it is not there, or with the last lines of a build that failed
   */
  async of(image: ModelImage, onLine: OnLine, signal: AbortSignal): Promise<string> {
    if ('reference' in image) return this.#here(image.reference, onLine, signal);
    const tag = `localhost/sluice/built:${digestOf(image)}`;
    return this.#once(tag, () => this.#buildDeclared(tag, image, onLine, signal));
  }

  /** The image with the packages of our entry point, and with an environment's steps. */
  async served(
    base: string,
    served: Served,
    { environment }: Pick<FunctionSpec, 'environment'>,
    onLine: OnLine,
    signal: AbortSignal,
  ) {
    const { tool } = this.#options;
    const described = await tool.ask(
      ['image', 'inspect', '--format', '{{.Id}} {{.Config.User}}', base],
      signal,
    );
    const [id, user] = described.split(' ');
    const isReady =
      environment.steps.length === 0 &&
      (await this.#hasModules(base, served === 'class' ? MODEL_MODULES : HANDLER_MODULES, signal));
    if (isReady) return base;
    const steps = environment.steps.map(stepLine);
    const lines = [`FROM ${base}`, 'USER 0', WITH_PIP, runLine(...PIP, ...PACKAGES), ...steps];
    const file = [...lines, ...(user ? [`USER ${user}`] : []), ''].join('\n');
    const tag = `localhost/sluice/served:${digestOf([id, file])}`;
    return this.#once(tag, () => this.#build(tag, file, null, onLine, signal));
  }

  /** What the image runs by itself. */
  async config(image: string, signal: AbortSignal): Promise<ImageConfig> {
    const text = await this.#options.tool.ask(
      ['image', 'inspect', '--format', '{{json .Config}}', image],
      signal,
    );
    const { Entrypoint, Cmd } = JSON.parse(text) as { Entrypoint?: string[] | null; Cmd?: string[] | null };
    return { entrypoint: Entrypoint ?? [], command: Cmd ?? [] };
  }

  #once(tag: string, build: () => Promise<string>): Promise<string> {
    let built = this.#built.get(tag);
    if (!built) {
      built = this.#isHere(tag).then((isHere) => (isHere ? tag : build()));
      this.#built.set(tag, built);
      // An image may be removed, and what a build lacked may come: it is looked at again by whoever starts next.
      const forget = (): boolean => this.#built.delete(tag);
      built.then(forget, forget);
    }
    return built;
  }

  #isHere(image: string): Promise<boolean> {
    return this.#options.tool.ask(['image', 'inspect', '--format', '{{.Id}}', image]).then(
      () => true,
      () => false,
    );
  }

  async #here(image: string, onLine: OnLine, signal: AbortSignal): Promise<string> {
    if (await this.#isHere(image)) return image;
    const { tool } = this.#options;
    onLine(`[sluice: ${tool.kind} pull ${image}]`);
    try {
      await tool.follow(['pull', image], onLine, signal);
    } catch (error) {
      throw new Error(
        `the image ${image} is not on this machine and cannot be pulled:\n${(error as Error).message}`,
      );
    }
    return image;
  }

  async #buildDeclared(
    tag: string,
    image: Extract<ModelImage, { readonly containerfile: string }>,
    onLine: OnLine,
    signal: AbortSignal,
  ): Promise<string> {
    const files = { name: 'context', version: 1, files: image.context, loader: null };
    const folder = await this.#options.models.take(files, signal);
    try {
      return await this.#build(tag, image.containerfile, folder.directory, onLine, signal);
    } finally {
      folder.giveBack();
    }
  }

  async #build(
    tag: string,
    file: string,
    context: string | null,
    onLine: OnLine,
    signal: AbortSignal,
  ): Promise<string> {
    const { tool, args } = this.#options;
    const directory = await mkdtemp(join(tmpdir(), 'sluice-image-'));
    try {
      await writeFile(join(directory, 'Containerfile'), file);
      onLine(`[sluice: ${tool.kind} build ${tag}]`);
      const command = ['build', ...buildArgs(args), '--file', join(directory, 'Containerfile'), '--tag', tag];
      await tool.follow([...command, '--label', 'sluice.image=1', context ?? directory], onLine, signal);
      return tag;
    } catch (error) {
      signal.throwIfAborted();
      throw new Error(`the image could not be built:\n${(error as Error).message}`);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  async #hasModules(image: string, imports: string, signal: AbortSignal): Promise<boolean> {
    const { tool, args, pythonPath } = this.#options;
    const { env, mounts } = packageIn(pythonPath);
    const command = [
      ...['run', '--rm', '--pull', 'never', ...args, ...mounts.flatMap(mountFlag)],
      ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
      ...['--entrypoint', 'python3', image, '-c', imports],
    ];
    return tool.ask(command, signal, IMPORT_MS_MAX).then(
      () => true,
      () => {
        signal.throwIfAborted();
        return false;
      },
    );
  }
}

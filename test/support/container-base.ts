/**
 * A base image made of this machine's own files, for machines that reach no image registry: Node, npm, Python, a shell
 * and the libraries that they name.
 */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { podman } from './container.ts';
import { PYTHON } from './sluice-process.ts';

/** What the Dockerfile's commands and its entry point run. */
const COMMANDS = [
  'sh',
  'cat',
  'chmod',
  'chown',
  'cp',
  'env',
  'find',
  'grep',
  'ln',
  'mkdir',
  'mv',
  'rm',
  'sleep',
  'uname',
];
/** The rest of the C library's family, which wheels and name look-ups expect on every system. */
const C_LIBRARIES = [
  'librt.so.1',
  'libutil.so.1',
  'libresolv.so.2',
  'libnss_dns.so.2',
  'libnss_files.so.2',
  'libz.so.1',
];
const STANDARD_LIBRARY_LEFT_OUT =
  /\/(site-packages|test|tests|idlelib|tkinter|turtledemo|__pycache__|config-[^/]*)$/;
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';

const run = (command: string, args: readonly string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

const where = (command: string): string => realpathSync(run('sh', ['-c', `command -v ${command}`]).trim());

class BaseImage {
  readonly root: string;
  readonly #libraries = new Set<string>();

  constructor(root: string) {
    this.root = root;
  }

  at(...parts: string[]): string {
    return path.join(this.root, ...parts);
  }

  /** Copies a file and the libraries that it is linked with, to where the loader looks for them. */
  add(file: string, target: string): void {
    mkdirSync(path.dirname(this.at(target)), { recursive: true });
    copyFileSync(realpathSync(file), this.at(target));
    this.addLibrariesOf(file);
  }

  addLibrariesOf(file: string): void {
    for (const [, library] of this.#linked(file).matchAll(/(?:=>\s*|^\s*)(\/\S+)/gm)) {
      if (library === undefined || this.#libraries.has(library)) continue;
      this.#libraries.add(library);
      mkdirSync(path.dirname(this.at(library)), { recursive: true });
      copyFileSync(realpathSync(library), this.at(library));
    }
  }

  addCLibraries(): void {
    const c = [...this.#libraries].find((library) => library.endsWith('/libc.so.6'))!;
    for (const name of C_LIBRARIES) {
      const library = path.join(path.dirname(c), name);
      if (existsSync(library)) copyFileSync(realpathSync(library), this.at(library));
    }
  }

  #linked(file: string): string {
    try {
      return run('ldd', [file]);
    } catch {
      // A script, or linked with nothing.
      return '';
    }
  }
}

const addNode = (base: BaseImage): void => {
  base.add(process.execPath, 'usr/local/bin/node');
  const npm = path.resolve(path.dirname(where('npm')), '..');
  cpSync(npm, base.at('usr/local/lib/node_modules/npm'), { recursive: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', base.at('usr/local/bin/npm'));
};

const addPython = (base: BaseImage): void => {
  const facts =
    'import sys, json; print(json.dumps([sys.base_prefix, "python%d.%d" % sys.version_info[:2]]))';
  const [prefix, name] = JSON.parse(run(PYTHON, ['-c', facts])) as [string, string];
  base.add(realpathSync(path.join(prefix, 'bin', name)), `opt/python/bin/${name}`);
  const library = path.join(prefix, 'lib', name);
  cpSync(library, base.at('opt/python/lib', name), {
    recursive: true,
    filter: (source) => !STANDARD_LIBRARY_LEFT_OUT.test(source) || source === library,
  });
  const modules = path.join(library, 'lib-dynload');
  for (const module of readdirSync(modules)) base.addLibrariesOf(path.join(modules, module));
  // Beside the interpreter: virtual environments look for the standard library from where they found it.
  symlinkSync(name, base.at('opt/python/bin/python3'));
};

const addShell = (base: BaseImage): void => {
  for (const command of COMMANDS) base.add(where(command), `usr/bin/${command}`);
  for (const folder of ['bin', 'sbin'])
    if (!existsSync(base.at(folder))) symlinkSync('usr/bin', base.at(folder));
  for (const folder of ['tmp', 'root', 'proc', 'sys', 'dev', 'run', 'var/tmp'])
    mkdirSync(base.at(folder), { recursive: true });
  run('chmod', ['1777', base.at('tmp'), base.at('var/tmp')]);
  mkdirSync(base.at('etc/ssl/certs'), { recursive: true });
  if (existsSync(CERTIFICATES)) copyFileSync(CERTIFICATES, base.at(CERTIFICATES));
  writeFileSync(base.at('etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(base.at('etc/group'), 'root:x:0:\n');
  writeFileSync(base.at('etc/nsswitch.conf'), 'hosts: files dns\n');
};

/** The registries that this machine's npm and pip use, so that the build asks the same ones. */
const environment = (): string[] => {
  const setting = (name: string, value: string): string[] =>
    value === '' || value === 'undefined' || value === 'null' ? [] : ['--change', `ENV ${name}=${value}`];
  const ask = (command: string, args: readonly string[]): string => {
    try {
      return run(command, args).trim();
    } catch {
      return '';
    }
  };
  const certificates = ['NODE_EXTRA_CA_CERTS', 'NPM_CONFIG_CAFILE', 'PIP_CERT', 'SSL_CERT_FILE'];
  return [
    ...setting('PATH', '/usr/local/bin:/opt/python/bin:/usr/bin:/bin'),
    ...setting('NPM_CONFIG_REGISTRY', ask('npm', ['config', 'get', 'registry'])),
    ...setting('PIP_INDEX_URL', ask(PYTHON, ['-m', 'pip', 'config', 'get', 'global.index-url'])),
    ...(existsSync(CERTIFICATES) ? certificates.flatMap((name) => setting(name, CERTIFICATES)) : []),
  ];
};

/** Makes the image and gives it a name. */
export const makeBaseImage = async (image: string): Promise<void> => {
  const base = new BaseImage(mkdtempSync(path.join(os.tmpdir(), 'sluice-base-')));
  const tar = `${base.root}.tar`;
  try {
    mkdirSync(base.at('usr/bin'), { recursive: true });
    addNode(base);
    addPython(base);
    addShell(base);
    base.addCLibraries();
    run('tar', ['--owner=0', '--group=0', '-C', base.root, '-cf', tar, '.']);
    await podman('import', '--quiet', ...environment(), tar, image);
  } finally {
    rmSync(base.root, { recursive: true, force: true });
    rmSync(tar, { force: true });
  }
};

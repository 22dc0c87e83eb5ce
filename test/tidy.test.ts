/** The house rules, as a test: what may import what, how long a file is, what a file may be called. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '..');
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '');
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const code = tracked.filter((file) => /\.(ts|mjs|js|py)$/.test(file));
const modules = code.filter((file) => file.endsWith('.ts'));

const importsOf = (file: string): string[] =>
  [
    ...read(file).matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]|(?:^|\n)import\s*['"]([^'"]+)['"]/g,
    ),
  ].map((match) => match[1] ?? match[2] ?? match[3] ?? '');

/** The layers of DESIGN's import law; a file may import its own layer's folder and what is listed. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  'shared/domain': ['shared/errors'],
  'shared/errors': ['shared/domain'],
  'shared/arrow': ['shared/domain', 'shared/errors', 'shared/store/ports'],
  'shared/config': ['shared/domain', 'shared/errors'],
  'shared/parquet': ['shared/domain', 'shared/errors', 'shared/arrow'],
  'shared/runtime': ['shared/domain', 'shared/errors'],
  'shared/wire': ['shared/domain', 'shared/errors', 'shared/arrow', 'shared/store/ports'],
  'shared/store': [
    'shared/domain',
    'shared/errors',
    'shared/arrow',
    'shared/config',
    'shared/runtime',
    'shared/wire',
  ],
  services: ['shared'],
  workers: ['shared'],
  sdk: ['shared/wire', 'shared/arrow', 'shared/errors', 'shared/domain'],
  cli: ['shared', 'services', 'workers', 'sdk'],
};

const layerOf = (file: string): string | undefined =>
  Object.keys(LAYERS).find((layer) => file.startsWith(`${layer}/`));
const isTest = (file: string): boolean => file.startsWith('test/') || file.endsWith('.test.ts');

const breaches = (): string[] => {
  const found: string[] = [];
  for (const file of modules.filter((name) => !isTest(name))) {
    const layer = layerOf(file);
    if (!layer) continue;
    for (const target of importsOf(file).filter((name) => name.startsWith('.'))) {
      const resolved = path.posix.join(path.posix.dirname(file), target);
      const allowed = [layer, ...LAYERS[layer]!].some((prefix) => resolved.startsWith(`${prefix}/`));
      if (!allowed) found.push(`${file} imports ${resolved}`);
    }
  }
  return found;
};

/** Libraries that one folder alone may import, so that replacing one touches one room. */
const HOMES: Readonly<Record<string, string | readonly string[]>> = {
  fastify: 'services/ingress',
  '@fastify/': 'services/ingress',
  'node:sqlite': 'shared/store/embedded',
  bullmq: 'shared/store/redis',
  ioredis: 'shared/store/redis',
  '@aws-sdk/': 'shared/store/bucket',
  flatbuffers: 'shared/arrow',
  '@uwdata/flechette': 'sdk',
  'prom-client': 'shared/runtime',
  pino: 'shared/runtime',
  '@opentelemetry/exporter-trace-otlp-proto': 'shared/runtime',
  '@opentelemetry/resources': 'shared/runtime',
  '@opentelemetry/sdk-trace': 'shared/runtime',
  commander: 'cli',
  // Two sides that may not import each other: calls to handlers' images, and the door for callers.
  '@grpc/': ['workers/grpc', 'services/ingress/oip'],
  '@kubernetes/': 'workers/kubernetes',
  'parquet-wasm': 'shared/parquet',
};

describe('the house rules', () => {
  it('keep the import law', () => {
    expect(modules.length).toBeGreaterThan(20);
    expect(breaches()).toEqual([]);
  });

  it('give each library one home', () => {
    const found: string[] = [];
    for (const file of modules.filter((name) => !isTest(name) && !/^(load-tests|examples)\//.test(name))) {
      for (const target of importsOf(file)) {
        const home = Object.entries(HOMES).find(
          ([name]) => target === name || target.startsWith(name.endsWith('/') ? name : `${name}/`),
        );
        if (home && ![home[1]].flat().some((folder) => file.startsWith(`${folder}/`)))
          found.push(`${file} imports ${target}; its home is ${home[1]}`);
      }
    }
    expect(found).toEqual([]);
  });

  it('keep files at 500 lines or less', () => {
    const long = code
      .map((file) => ({ file, lines: read(file).split('\n').length - 1 }))
      .filter(({ lines }) => lines > 500);
    expect(long).toEqual([]);
  });

  it('name files after what they hold, in kebab case', () => {
    const vague = code.filter((file) =>
      /(^|[/.-])(utils?|helpers?|common|managers?|misc)\.[a-z]+$/.test(file),
    );
    expect(vague).toEqual([]);
    const notKebab = modules.filter(
      (file) => !/^[a-z0-9]+(-[a-z0-9]+)*(\.(test|config|d|bench))?\.ts$/.test(path.basename(file)),
    );
    expect(notKebab).toEqual([]);
  });

  it('wait on signals, never on sleeps, in tests', () => {
    const sleeps = code
      .filter((file) => isTest(file) || /python\/tests\//.test(file))
      .filter((file) => file !== 'test/tidy.test.ts')
      .filter((file) =>
        /setTimeout\(\s*(resolve|r|done)\b|await (sleep|delay)\(|timers\/promises|\btime\.sleep\(/.test(
          read(file),
        ),
      );
    // A fault test may hold a handler busy; such a body says so with the word "busy" beside the sleep.
    expect(sleeps.filter((file) => !/# busy|\/\/ busy/.test(read(file)))).toEqual([]);
  });

  it('have no banners and no unfinished marks', () => {
    const marks = code
      .filter((file) => file !== 'test/tidy.test.ts')
      .filter((file) => /\b(TODO|FIXME|XXX)\b|^\s*(\/\/|#)\s*[=\-*#]{10,}/m.test(read(file)));
    expect(marks).toEqual([]);
  });

  it('read the environment in one file', () => {
    const readers = modules.filter(
      (file) =>
        /^(services|workers|shared|cli)\//.test(file) && !isTest(file) && /process\.env\b/.test(read(file)),
    );
    expect(readers).toEqual(['shared/config/environment.ts']);
  });
});

/**
 * A process of its own that imports one module and answers what it declares. Run with fork: argument, the file; answer,
 * one message, a `ModuleManifest`.
 */
import { registerHooks } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { FunctionDefinition } from '../../sdk/index.ts';
import type { ModuleManifest } from './node-manifest.ts';

const FUNCTION = Symbol.for('sluice.function');

const definitionOf = (value: unknown): FunctionDefinition | undefined =>
  typeof value === 'function' || (typeof value === 'object' && value !== null)
    ? (value as Record<symbol, FunctionDefinition | undefined>)[FUNCTION]
    : undefined;

const describe = async (file: string): Promise<ModuleManifest> => {
  const entry = pathToFileURL(file).href;
  const own = new Set([entry]);
  // Packages are the environment's; only what a shipped file names by a relative path is shipped.
  registerHooks({
    resolve: (specifier, context, next) => {
      const resolved = next(specifier, context);
      if (/^\.{1,2}\//.test(specifier) && context.parentURL !== undefined && own.has(context.parentURL))
        own.add(resolved.url);
      return resolved;
    },
  });
  const module = (await import(entry)) as Record<string, unknown>;
  const functions = Object.entries(module).flatMap(([attribute, value]) => {
    const definition = definitionOf(value);
    return definition ? [{ attribute, spec: definition.spec }] : [];
  });
  return {
    functions,
    files: [...own].filter((url) => url.startsWith('file:')).map((url) => fileURLToPath(url)),
  };
};

const answer = (manifest: ModuleManifest): void => {
  process.send?.(manifest);
};

describe(process.argv[2] ?? '').then(answer, (error: unknown) =>
  answer({ error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) }),
);

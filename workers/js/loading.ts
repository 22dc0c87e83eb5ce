/** Loads a user's module and finds its function. */
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The mark of the SDK's `defineFunction`. */
const FUNCTION = Symbol.for('sluice.function');

export type LoadedFunction = {
  readonly handler: (...args: unknown[]) => unknown;
  readonly onStartup: (() => unknown) | null;
  readonly onShutdown: (() => unknown) | null;
};

const isBare = (specifier: string): boolean => !/^(\.|\/|[a-z]+:)/.test(specifier);

/** Packages that the module's own folder does not have come from `directory`, then from where Sluice has its own. */
export const resolvePackagesFrom = (directory: string): void => {
  const parents = [pathToFileURL(join(directory, 'package.json')).href, import.meta.url];
  registerHooks({
    resolve: (specifier, context, next) => {
      try {
        return next(specifier, context);
      } catch (error) {
        if (!isBare(specifier)) throw error;
        for (const parentURL of parents) {
          try {
            return next(specifier, { ...context, parentURL });
          } catch {
            // The first failure names the module's own folder, which is what its author knows.
          }
        }
        throw error;
      }
    },
  });
};

/** The exported attribute: made by `defineFunction`, or a plain function. */
export const loadFunction = async (
  directory: string,
  { file, attribute }: { readonly file: string; readonly attribute: string },
): Promise<LoadedFunction> => {
  const module = (await import(pathToFileURL(join(directory, file)).href)) as Record<string, unknown>;
  const value = module[attribute];
  if (typeof value !== 'function') {
    const names = Object.keys(module).join(', ') || 'nothing';
    throw new TypeError(`${file} exports ${names}; "${attribute}" is not a function there`);
  }
  const marked = (value as unknown as Record<symbol, LoadedFunction | undefined>)[FUNCTION];
  return marked ?? { handler: value as LoadedFunction['handler'], onStartup: null, onShutdown: null };
};

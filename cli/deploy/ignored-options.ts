/** What a function runs without on this server, told to whoever deployed it. */
import type { FunctionJson, Sluice } from '../../sdk/index.ts';

/** Of the current version; known once a worker host has seen it. */
export const ignoredBy = (fn: FunctionJson): readonly string[] =>
  fn.replicas.filter(({ version }) => version === fn.version).flatMap(({ ignored }) => ignored);

/** Nothing where the function cannot be read: what was asked for is done, and this is said beside it. */
export const ignoredOf = (client: Sluice, functionName: string): Promise<readonly string[]> =>
  client
    .function(functionName)
    .show()
    .then(ignoredBy)
    .catch(() => []);

/** `cpu=2` is honoured in part, and its text is a sentence of its own. */
export const ignoredLine = (name: string, option: string): string =>
  option.startsWith('cpu=') ? `${name}: ${option}.\n` : `${name}: not honoured here: ${option}.\n`;

/** `sluice engines create -f FILE`: an engine as YAML or JSON, with what was given on the command line on top. */
import { readFile, stat } from 'node:fs/promises';
import { parseDocument } from 'yaml';
import type { EngineRequestJson } from '../../sdk/index.ts';
import { UsageError } from '../failure.ts';

/** The server takes no more. */
const FILE_BYTES_MAX = 4 * 2 ** 20;

/** @throws UsageError for a file that is no YAML object; what its members say is checked by the server */
export const readEngineFile = async (
  file: string,
  more: Readonly<Record<string, unknown>>,
): Promise<EngineRequestJson> => {
  const { size } = await stat(file);
  if (size > FILE_BYTES_MAX)
    throw new UsageError(`${file} has ${size} bytes; an engine has at most ${FILE_BYTES_MAX}.`);
  const document = parseDocument(await readFile(file, 'utf8'), { prettyErrors: true });
  const [error] = document.errors;
  if (error !== undefined) throw new UsageError(`${file} is not YAML: ${error.message}`);
  // Aliases that grow are refused by the parser.
  const engine: unknown = document.toJS({ maxAliasCount: 100 });
  if (typeof engine !== 'object' || engine === null || Array.isArray(engine))
    throw new UsageError(`${file} holds no object; give project, name, version and an image or a command.`);
  const { version } = engine as { version?: unknown };
  // As a text it might be another one: 1.10 is read as 1.1.
  if (typeof version === 'number' && more.version === undefined)
    throw new UsageError(`${file}: version is the number ${version}; put it in quotes: version: "1".`);
  const given = Object.entries(more).filter(([, value]) => value !== undefined);
  return { ...engine, ...Object.fromEntries(given) } as EngineRequestJson;
};

/**
 * What runs before a replica in its pod, in Sluice's own image: fetches the model's files by their digests, and puts our
 * entrypoint where an image without it is to find it. Our image has Node and this file anyway, and the model's image needs
 * nothing for it. Its last line says why it failed, which the pod's status repeats.
 */
import { parseArgs } from 'node:util';
import { copyEntrypoint, fetchModel } from './model-files.ts';

const OPTIONS = {
  address: { type: 'string' },
  'key-file': { type: 'string' },
  model: { type: 'string' },
  version: { type: 'string' },
  list: { type: 'string' },
  into: { type: 'string' },
  home: { type: 'string' },
  output: { type: 'string' },
  entrypoint: { type: 'boolean', default: false },
  'entrypoint-from': { type: 'string', default: '/opt/venv/lib/python3*/site-packages/sluice' },
} as const;

const main = async (): Promise<void> => {
  const { values } = parseArgs({ options: OPTIONS, strict: true });
  const { address, model, version, list, into = null, home = null } = values;
  const say = (text: string): void => console.log(text);
  if (model !== undefined) {
    if (address === undefined || version === undefined || list === undefined)
      throw new Error('--model needs --address, --version and --list');
    const served = home === null || values.output === undefined ? null : { home, output: values.output };
    const keyFile = values['key-file'] ?? null;
    await fetchModel({ address, keyFile, model, version, list, into, served, say });
  }
  if (values.entrypoint) {
    if (home === null) throw new Error('--entrypoint needs --home');
    await copyEntrypoint(values['entrypoint-from'], `${home}/python`);
  }
};

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
});

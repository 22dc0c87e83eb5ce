/** Where pip finds the Python package: by its path, since the name `sluice` belongs to another project on PyPI. */
import { existsSync } from 'node:fs';
import { PACKAGE_DIRECTORY } from '../../workers/python/launch.ts';

/**
 * What `pip install` takes, quoted for a shell.
 *
 * @param extra of the package, as `[sql]`
 */
export const packageRequirement = (extra = ''): string => {
  // An image has no checkout.
  const directory = existsSync(PACKAGE_DIRECTORY) ? PACKAGE_DIRECTORY : '/path/to/sluice/python';
  return `'${directory}${extra}'`;
};

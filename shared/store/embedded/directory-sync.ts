import { closeSync, fsyncSync, openSync } from 'node:fs';

/** Makes a directory's entries durable. */
export const syncDirectory = (path: string): void => {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
};

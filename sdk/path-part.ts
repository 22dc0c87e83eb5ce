/** A name or id as one part of a URL's path. */

/** @throws RangeError for '', '.' and '..', which a URL takes for steps, so that the request would reach another thing */
export const pathPart = (text: string | number): string => {
  const part = String(text);
  if (part === '' || part === '.' || part === '..')
    throw new RangeError(
      `${JSON.stringify(part)} cannot be a name or an id; give the one that the server shows`,
    );
  return encodeURIComponent(part);
};

/** The source of a function's version. It lies apart from the version's spec, so that reading a record does not bring it along. */
import type { FunctionSpec, SourceFile } from '../../domain/function.ts';
import type { Layout } from './layout.ts';
import type { Link } from './link.ts';
import { unpack } from './packing.ts';

/** MessagePack of what `versions` has of each version (scripts/deploy.lua). */
export type PackedVersion = [digest: string, createdAt: number, spec: string];

type Place = { readonly link: Link; readonly layout: Layout };

/** undefined: there is no such version, or none any more. */
export const readSource = async (
  { link, layout }: Place,
  fn: number,
  serial: number,
): Promise<readonly SourceFile[] | undefined> => {
  const text = await link.command<Buffer | null>('HGET', layout.key(fn, 'sources'), serial);
  if (text !== null) return JSON.parse(String(text)) as SourceFile[];
  // An earlier Sluice kept it in the spec.
  const packed = await link.command<Buffer | null>('HGET', layout.key(fn, 'versions'), serial);
  return packed === null ? undefined : (JSON.parse(unpack<PackedVersion>(packed)[2]) as FunctionSpec).source;
};

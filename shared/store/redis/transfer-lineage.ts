/**
 * The ids that calls had in the stores which they were moved out of: seven bytes a call in texts of 1,024 neighbouring
 * ids each (`{sluice}:former:TAG:CHUNK`), written once by a migration and read when somebody comes with an old id.
 */
import type { FormerId, Lineage } from '../ports/transfer.ts';
import type { Layout } from './layout.ts';
import type { Link } from './link.ts';

const CHUNK_IDS = 1024;
const ID_BYTES = 7;

const chunkOf = ({ tag, id }: FormerId): string => `${tag}:${Math.floor(id / CHUNK_IDS)}`;
const offsetOf = ({ id }: FormerId): number => (id % CHUNK_IDS) * ID_BYTES;

const write = (callId: number): Buffer => {
  const bytes = Buffer.alloc(ID_BYTES);
  bytes.writeUIntBE(Math.floor(callId / 2 ** 24), 0, 4);
  bytes.writeUIntBE(callId % 2 ** 24, 4, 3);
  return bytes;
};

export const addFormer = async (
  link: Link,
  layout: Layout,
  pairs: readonly { readonly former: FormerId; readonly callId: number }[],
): Promise<void> => {
  if (pairs.length === 0) return;
  // Listed first: a text that is not listed would be lost in the next migration.
  const chunks = new Set(pairs.map(({ former }) => chunkOf(former)));
  await link.command('SADD', layout.store('former-chunks'), ...chunks);
  const writing = pairs.map(({ former, callId }) =>
    link.command('SETRANGE', layout.former(chunkOf(former)), offsetOf(former), write(callId)),
  );
  await Promise.all(writing);
};

export const resolveFormer = async (link: Link, layout: Layout, former: FormerId): Promise<number | null> => {
  const offset = offsetOf(former);
  const key = layout.former(chunkOf(former));
  const bytes = await link.command<Buffer>('GETRANGE', key, offset, offset + ID_BYTES - 1);
  if (bytes.length < ID_BYTES) return null;
  const id = bytes.readUIntBE(0, 4) * 2 ** 24 + bytes.readUIntBE(4, 3);
  return id === 0 ? null : id;
};

/** Every old id that is kept, with the id that the call has here, a chunk at a time in no order. */
export async function* eachFormer(
  link: Link,
  layout: Layout,
): AsyncGenerator<{ readonly former: FormerId; readonly callId: number }> {
  for (const name of await link.command<Buffer[]>('SMEMBERS', layout.store('former-chunks'))) {
    const [tag, chunk] = String(name).split(':') as [string, string];
    const bytes = await link.command<Buffer>('GET', layout.former(String(name)));
    for (let at = 0; at + ID_BYTES <= bytes.length; at += ID_BYTES) {
      const callId = bytes.readUIntBE(at, 4) * 2 ** 24 + bytes.readUIntBE(at + 4, 3);
      if (callId > 0) yield { former: { tag, id: Number(chunk) * CHUNK_IDS + at / ID_BYTES }, callId };
    }
  }
}

export const makeLineage = ({ link, layout }: { link: Link; layout: Layout }): Lineage => ({
  resolve: (former) => resolveFormer(link, layout, former),
});

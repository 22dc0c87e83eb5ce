/**
 * A store whose disk fills up and gets room again, told step by step in the facts file.
 * Arguments: data directory, facts file, the file whose existence fills the disk.
 */
import { openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import type { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import { LIMITS } from '../../contract/factory.ts';
import { Workshop } from '../../contract/workshop.ts';

const [directory, factsFile, full] = process.argv.slice(2) as [string, string, string];
const facts = openSync(factsFile, 'w');
const tell = (text: string): void => void writeSync(facts, `${text}\n`);

const shop = new Workshop({
  open: () => openEmbeddedStore({ ...LIMITS, directory, durability: 'fsync' }),
  remove: () => Promise.resolve(),
});
await shop.open();

/** Admits until it is refused; the log file has some room that was written before. */
const admitted: number[] = [];
const refusalOf = async (bytes: number): Promise<string> => {
  for (;;) {
    try {
      admitted.push(await shop.admit(1, { bytes, payload: { kind: 'arrow', bytes: new Uint8Array(bytes) } }));
    } catch (error) {
      return (error as SluiceError).code;
    }
  }
};

const waiting = await shop.admit(1);
const finished = await shop.admit(1);
await shop.settleOk(await shop.run([finished, 0, 1]));
const held = await shop.admit(1);
const batch = await shop.run([held, 0, 1]);
// A lease is answered before its seal is durable; a disk that fills in between would undo it, and its rows wait again.
await shop.settled();

writeFileSync(full, '');
tell(`refused ${await refusalOf(1000)}`);
tell(`read ${(await shop.call(waiting)).status}`);
tell(`read ${(await shop.call(finished)).status}`);
tell(`large refused ${await refusalOf(500_000)}`);
// A settle that finds no room is refused as well, and is good later with the same token.
const early = await shop.settleOk(batch).catch((error: SluiceError) => error.code);
rmSync(full);
const late = typeof early === 'string' ? await shop.settleOk(batch) : early;
if (late.accepted !== true)
  throw new Error(`the held batch could not be settled: ${JSON.stringify([early, late])}`);
const again = await shop.admit(1, {
  bytes: 500_000,
  payload: { kind: 'arrow', bytes: new Uint8Array(500_000) },
});
tell('recovered');
for (const id of [waiting, ...admitted, again]) await shop.settleOk(await shop.run([id, 0, 1]));
for (const id of [waiting, finished, held, ...admitted, again]) {
  const { status } = await shop.call(id);
  if (status !== 'completed') throw new Error(`call ${id} is ${status}`);
}
await shop.reopen();
for (const id of [waiting, finished, held, ...admitted, again]) {
  const { status } = await shop.call(id);
  if (status !== 'completed') throw new Error(`call ${id} is ${status} after a restart`);
}
await shop.close();
tell('finished');
process.exit(0);

/** Calls hash-embed in the two ways the SDK has: a handle for one call, and chunks with progress for a table. */
import { Sluice } from '@sluice/sdk';

const embed = new Sluice().function<{ text: string }, number[]>('hash-embed');

const handle = await embed.deferBatch([
  { text: 'a full batch' },
  { text: 'the batch is full' },
  { text: 'zebras graze' },
]);
const [full, alike, other] = await handle.get({ timeoutMs: 60_000 });

const similarity = (a: number[], b: number[]): string =>
  a.reduce((sum, value, i) => sum + value * b[i]!, 0).toFixed(3);
console.log(`call ${handle.callId}: alike ${similarity(full!, alike!)}, other ${similarity(full!, other!)}`);

const texts = Array.from({ length: 1000 }, (_, i) => `row number ${i}`);
const { result } = await embed.chunkedCall(
  { text: texts },
  {
    chunkSize: 250,
    concurrentChunks: 2,
    timeoutMs: 60_000,
    onProgress: ({ rowsDone, rowsTotal }) => console.log(`${rowsDone} of ${rowsTotal} rows`),
  },
);
console.log(`${result.length} vectors of ${result[0]!.length} numbers`);

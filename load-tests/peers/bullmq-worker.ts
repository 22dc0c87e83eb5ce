/** Plain BullMQ's side of the handler: a Worker whose processor answers one row. `bullmq-worker.ts URL QUEUE CONCURRENCY` */
import { Worker } from 'bullmq';

const [url, queue, concurrency] = process.argv.slice(2) as [string, string, string];

type Row = { readonly text: string; readonly width: number };

const worker = new Worker<Row, number[]>(
  queue,
  async ({ data }) => new Array<number>(data.width).fill(data.text.length),
  { connection: { url }, concurrency: Number(concurrency) },
);
worker.on('error', (error) => console.error(error));
process.once('SIGTERM', () => void worker.close().then(() => process.exit(0)));

/** The load of the bulk scenarios: whole passes over the same rows, again and again until the time is over. */
import os from 'node:os';
import { Agent, request } from 'undici';
import type { Run, Subject } from '../comparison.ts';
import { type Parts, watchShares } from '../machine/core-shares.ts';
import type { Api } from '../peers/sluice.ts';

export const ROWS = 100_000;
export const BATCH_ROWS = 1000;
/** Rows of one Sluice call, and calls in flight: what `chunked_call` does with `chunk_size=10_000, concurrent_chunks=4`. */
export const CALL_ROWS = 10_000;
export const CONCURRENT = 4;
export const WIDTHS = [384, 8];

export const ARROW = 'application/vnd.apache.arrow.stream';
const agent = new Agent({
  connections: CONCURRENT,
  pipelining: 1,
  bodyTimeout: 120_000,
  headersTimeout: 120_000,
});

/** The bytes of the answer, which is held as one Buffer but not decoded, as in the reference. */
export const post = async (url: string, body: Buffer, headers: Record<string, string>): Promise<number> => {
  const answer = await request(url, { method: 'POST', body, headers, dispatcher: agent });
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  if (answer.statusCode !== 200)
    throw new Error(`POST ${url}: ${answer.statusCode} ${bytes.toString('utf8', 0, 500)}`);
  return bytes.length;
};

/** `send` for every part, `CONCURRENT` at a time; the sum of what it answers. */
export const concurrently = async <T>(
  parts: readonly T[],
  send: (part: T) => Promise<number>,
): Promise<number> => {
  let [next, bytes] = [0, 0];
  const lane = async (): Promise<void> => {
    while (next < parts.length) {
      const received = await send(parts[next++]!); // `bytes += await …` would read `bytes` before the wait
      bytes += received;
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT }, lane));
  return bytes;
};

/** One pass over Sluice: every call is sent and its result taken with the same request. */
export const passOf = (api: Api, calls: readonly Buffer[], width: number) => (): Promise<number> => {
  const url = `${api.url}/v1/functions/vectors_${width}/calls`;
  const headers = { 'content-type': ARROW, accept: ARROW, prefer: 'wait=120' };
  return concurrently(calls, (call) => post(url, call, headers));
};

export type Passes = {
  readonly name: string;
  readonly parts: Parts;
  /** Of one pass. */
  readonly rows: number;
  readonly width: number;
  readonly seconds: number;
  /** Answers the bytes received, which are no fewer than the rows have. */
  readonly pass: () => Promise<number>;
};

/** Whole passes only, after one that is not counted. */
export const repeated = ({ name, parts, rows, width, seconds, pass }: Passes): Subject => ({
  name,
  run: async (): Promise<Run> => {
    await pass();
    const sharesOf = watchShares(parts);
    const until = performance.now() + seconds * 1000;
    let [passes, short] = [0, 0];
    while (performance.now() < until) {
      if ((await pass()) < rows * width * 4) short += 1;
      passes += 1;
    }
    const shares = sharesOf();
    const remarks = short > 0 ? [`${short} passes answered fewer bytes than the rows have`] : [];
    if (Object.keys(parts).length > 1)
      remarks.push(`cores kept busy: ${shares.words(os.availableParallelism())}`);
    return {
      rows: passes * rows,
      seconds: shares.seconds,
      cpuSeconds: shares.cpuSeconds,
      latencies: null,
      failures: short,
      remarks,
    };
  },
});

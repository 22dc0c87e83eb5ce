/**
 * One question whether an engine is ready. 200 to 399 is yes, whatever the body says; a redirect is followed within the engine's
 * own address, and is no where it leads elsewhere: what it leads to says nothing of this replica.
 */
import { Client, type Dispatcher } from 'undici';
import { connectionText, type EngineAddress, originOf } from './engine-connection.ts';

const REDIRECTS_MAX = 10;
/** What a reason quotes of a bad answer's body. */
const QUOTED_BYTES_MAX = 200;

export type ProbeAnswer = { readonly isGood: boolean; readonly text: string };

type Question = { readonly address: EngineAddress; readonly path: string; readonly timeoutMs: number };

/** Never rejects, but for `stopped`. */
export const askReady = async (
  { address, path, timeoutMs }: Question,
  stopped: AbortSignal,
): Promise<ProbeAnswer> => {
  const origin = originOf(address);
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([timeout, stopped]);
  // A connection for each question, as Kubernetes does: an old one says less than whether it still listens.
  const client = new Client(origin, { pipelining: 0, connect: { timeout: timeoutMs } });
  try {
    return await askedFrom(client, origin, path, signal);
  } catch (error) {
    stopped.throwIfAborted();
    const text = timeout.aborted ? `no answer within ${timeoutMs} ms` : connectionText(error);
    return { isGood: false, text };
  } finally {
    await client.destroy();
  }
};

const askedFrom = async (
  client: Client,
  origin: string,
  first: string,
  signal: AbortSignal,
): Promise<ProbeAnswer> => {
  let path = first;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    const { statusCode, headers, body } = await client.request({ path, method: 'GET', signal });
    const next = statusCode >= 300 && statusCode < 400 ? headers.location : undefined;
    if (next === undefined) return await judged(statusCode, body);
    body.on('error', () => undefined).destroy();
    const to = targetOf(String(next), `${origin}${path}`);
    if (to?.origin !== origin)
      return {
        isGood: false,
        text: `answered ${statusCode}, a redirect to ${to?.href ?? 'no URL'}, which is not the engine`,
      };
    path = `${to.pathname}${to.search}`;
  }
  return { isGood: false, text: `answered more than ${REDIRECTS_MAX} redirects` };
};

const targetOf = (location: string, base: string): URL | null => {
  try {
    return new URL(location, base);
  } catch {
    return null;
  }
};

const judged = async (status: number, body: Dispatcher.ResponseData['body']): Promise<ProbeAnswer> => {
  const isGood = status >= 200 && status < 400;
  const quoted = isGood ? '' : await beginningOf(body);
  // The rest is not wanted, however long it is.
  body.on('error', () => undefined).destroy();
  return { isGood, text: `answered ${status}${quoted === '' ? '' : ` ${JSON.stringify(quoted)}`}` };
};

const beginningOf = async (body: AsyncIterable<Uint8Array>): Promise<string> => {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes >= QUOTED_BYTES_MAX) break;
  }
  return Buffer.concat(chunks).subarray(0, QUOTED_BYTES_MAX).toString('utf8').trim();
};

/**
 * Artifacts of a bucket as files of this machine: a directory like that of artifacts, with the same care for two processes
 * that fetch the same at once, and a limit. What was asked for in the last hours stays; a file that is linked elsewhere
 * stays as long as its link.
 */
import PQueue from 'p-queue';
import type { Digest } from '../../domain/model.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { Artifacts } from '../ports/artifacts.ts';
import { DirectoryArtifacts } from './directory-artifacts.ts';
import { factsOf } from './plain-file.ts';
import { notFound } from './refusals.ts';

/** A machine's network is full with these. */
const DOWNLOADS_MAX = 4;
/** Whoever asked for a file has opened or linked it in this time. */
const KEPT_MS = 2 * 3_600_000;

export type CacheOptions = {
  readonly cacheDirectory: string;
  readonly cacheBytesMax: number;
  readonly reserveBytes: number;
};

type Kept = { readonly digest: Digest; readonly bytes: number; readonly storedAt: number };

export class ArtifactsCache {
  readonly #source: Pick<Artifacts, 'state' | 'read'>;
  readonly #options: CacheOptions;
  readonly #files: DirectoryArtifacts;
  readonly #queue = new PQueue({ concurrency: DOWNLOADS_MAX });
  readonly #fetching = new Map<Digest, Promise<void>>();

  constructor(source: Pick<Artifacts, 'state' | 'read'>, options: CacheOptions) {
    this.#source = source;
    this.#options = options;
    this.#files = new DirectoryArtifacts(options.cacheDirectory, options.reserveBytes);
  }

  /** @throws SluiceError `artifact_not_found`, `disk_full`, `store_unavailable`; the signal's reason */
  async file(digest: Digest, signal: AbortSignal): Promise<string> {
    while (!(await this.#files.state(digest)).isComplete) {
      signal.throwIfAborted();
      const fetching = this.#fetching.get(digest);
      // Who waits for another's download must not fail with what stopped the other.
      if (fetching !== undefined) await settled(fetching, signal);
      else await this.#fetch(digest, signal);
    }
    return this.#files.file(digest);
  }

  async #fetch(digest: Digest, signal: AbortSignal): Promise<void> {
    const fetching = this.#queue.add(() => this.#download(digest, signal), { signal });
    this.#fetching.set(digest, fetching);
    try {
      await fetching;
    } finally {
      this.#fetching.delete(digest);
    }
  }

  async #download(digest: Digest, signal: AbortSignal): Promise<void> {
    const { isComplete, receivedBytes: bytes } = await this.#source.state(digest);
    if (!isComplete) throw notFound(digest);
    const { receivedBytes, bytes: told } = await this.#files.state(digest);
    const offsetBytes = told === bytes ? receivedBytes : 0;
    await this.#makeRoom(bytes);
    const { body } = await this.#source.read({ digest, fromByte: offsetBytes });
    try {
      await this.#files.append({ digest, offsetBytes, bytes, body: until(body, signal) });
    } catch (error) {
      // Another process fetches it, or has just moved it on: look again.
      const again = ['changed_meanwhile', 'artifact_offset_conflict'];
      if (!(error instanceof SluiceError) || !again.includes(error.code)) throw error;
    }
  }

  async #makeRoom(bytes: number): Promise<void> {
    const { cacheBytesMax, cacheDirectory } = this.#options;
    const kept: Kept[] = [];
    for await (const one of this.#files.list()) kept.push(one);
    let held = kept.reduce((sum, one) => sum + one.bytes, 0);
    for (const one of kept.sort((a, b) => a.storedAt - b.storedAt)) {
      if (held + bytes <= cacheBytesMax) return;
      if ((await this.#isFree(one)) && (await this.#files.remove(one.digest, Date.now() - KEPT_MS)))
        held -= one.bytes;
    }
    if (held + bytes <= cacheBytesMax) return;
    throw new SluiceError(
      'disk_full',
      `${cacheDirectory} has ${held} bytes of artifacts in use, ${bytes} are to come, and ${cacheBytesMax} are allowed; raise --artifacts-cache-limit.`,
    );
  }

  async #isFree({ digest }: Kept): Promise<boolean> {
    return (await factsOf(this.#files.pathOf(digest)))?.links === 1;
  }
}

const settled = (work: Promise<unknown>, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const done = (): void => {
      signal.removeEventListener('abort', stop);
      resolve();
    };
    const stop = (): void => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    work.then(done, done);
  });

async function* until(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    signal.throwIfAborted();
    yield chunk;
  }
}

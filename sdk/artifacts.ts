/** Large files on a server, by the SHA-256 of their bytes: sent in pieces that go on where they broke off, read back and checked. */
import { SluiceError } from './errors.ts';
import { pathPart } from './path-part.ts';
import { backOffMs, pause, type Transport } from './transport.ts';

/** Of one request: the most that is in memory, and that a cut connection sends again. */
export const PIECE_BYTES = 16 * 2 ** 20;
const RETRIES = 10;
const RESTARTS = 2;

/** Bytes that can be read more than once; a `FileHandle` of node:fs/promises is one. */
export type ReadableFile = {
  stat(): Promise<{ readonly size: number; readonly mtimeMs: number }>;
  read(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
};

/** Where a download goes; a `FileHandle` that is open for writing is one. */
export type WritableFile = {
  write(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesWritten: number }>;
};

export type Artifact = { readonly digest: string; readonly bytes: number };
export type ArtifactProgress = (doneBytes: number, totalBytes: number) => void;
export type TransferOptions = {
  readonly onProgress?: ArtifactProgress | undefined;
  readonly signal?: AbortSignal | undefined;
};
export type UploadState = {
  readonly isComplete: boolean;
  readonly offset: number;
  /** Of the whole file; null while nothing came. */
  readonly bytes: number | null;
};

export class Artifacts {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async state(digest: string, signal?: AbortSignal): Promise<UploadState> {
    const options = { method: 'HEAD', isSafe: true, signal } as const;
    return stateOf((await this.#transport.request(pathOf(digest), options)).headers);
  }

  /**
   * Puts a file, or bytes, on the server. What is there already is not sent; what came before is not sent again.
   *
   * @throws SluiceError `artifact_digest_mismatch` for a file that was changed while it was read; ConnectionError
   */
  async upload(source: ReadableFile | Uint8Array, options: TransferOptions = {}): Promise<Artifact> {
    const file = source instanceof Uint8Array ? fileOf(source) : source;
    const facts = await file.stat();
    const digest = await digestOf(file, facts.size);
    const upload = { file, facts, digest };
    for (let restarts = 0; ; restarts += 1) {
      await check(upload);
      try {
        return await this.#send(upload, options);
      } catch (error) {
        if (!(error instanceof SluiceError) || error.code !== 'artifact_digest_mismatch') throw error;
        // Either the file is another by now, or somebody else sent other bytes under its digest.
        if ((await digestOf(file, facts.size)) !== digest) throw changed();
        if (restarts === RESTARTS) throw error;
      }
    }
  }

  /** Writes an artifact, and checks what was written. @throws SluiceError `artifact_not_found`, `artifact_digest_mismatch` */
  async download(digest: string, target: WritableFile, options: TransferOptions = {}): Promise<Artifact> {
    const { signal, onProgress } = options;
    const { isComplete, offset: bytes } = await this.state(digest, signal);
    if (!isComplete) await this.#transport.request(pathOf(digest), { isSafe: true, signal });
    const hash = await newHash();
    for (let at = 0; at < bytes; at += PIECE_BYTES) {
      const end = Math.min(bytes, at + PIECE_BYTES);
      const headers = { range: `bytes=${at}-${end - 1}` };
      const { bytes: piece } = await this.#transport.request(pathOf(digest), {
        headers,
        isSafe: true,
        signal,
      });
      hash.update(piece);
      await writeAll(target, piece, at);
      onProgress?.(end, bytes);
    }
    const found = hash.finish();
    if (found === digest) return { digest, bytes };
    throw new SluiceError(
      'artifact_digest_mismatch',
      `The ${bytes} bytes that came as ${digest} have the digest ${found}.`,
    );
  }

  async #send({ file, facts, digest }: Upload, { onProgress, signal }: TransferOptions): Promise<Artifact> {
    const total = facts.size;
    let state = await this.state(digest, signal);
    for (let refusals = 0; !state.isComplete; ) {
      // Whoever told another length was wrong: a digest has one file.
      const offset = state.bytes === null || state.bytes === total ? state.offset : 0;
      onProgress?.(offset, total);
      const piece = await pieceOf(file, offset, Math.min(total, offset + PIECE_BYTES));
      await check({ file, facts, digest });
      try {
        state = await this.#append(digest, offset, total, piece, signal);
        refusals = 0;
      } catch (error) {
        if (!(error instanceof SluiceError) || !isConflict(error) || refusals >= RETRIES) throw error;
        await pause(backOffMs(refusals), signal);
        refusals += 1;
        state = await this.state(digest, signal);
      }
    }
    onProgress?.(total, total);
    return { digest, bytes: total };
  }

  /** Sent twice after a lost answer, the second is told the offset that the first one reached. */
  async #append(
    digest: string,
    offset: number,
    total: number,
    body: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<UploadState> {
    const headers = {
      'content-type': 'application/octet-stream',
      'upload-offset': String(offset),
      'upload-length': String(total),
    };
    const options = { method: 'PATCH', headers, body, isSafe: true, signal } as const;
    return stateOf((await this.#transport.request(pathOf(digest), options)).headers);
  }
}

type Upload = {
  readonly file: ReadableFile;
  readonly facts: { readonly size: number; readonly mtimeMs: number };
  readonly digest: string;
};

const isConflict = ({ code }: SluiceError): boolean =>
  code === 'artifact_offset_conflict' || code === 'changed_meanwhile';

const pathOf = (digest: string): string => `/v1/artifacts/${pathPart(digest)}`;

const stateOf = (headers: Headers): UploadState => {
  const length = headers.get('upload-length');
  return {
    isComplete: headers.get('upload-complete') === '?1',
    offset: Number(headers.get('upload-offset')),
    bytes: length === null ? null : Number(length),
  };
};

const changed = (): SluiceError =>
  new SluiceError(
    'artifact_digest_mismatch',
    'The file was changed while it was uploaded; upload it again once nothing writes to it.',
  );

const check = async ({ file, facts }: Upload): Promise<void> => {
  const { size, mtimeMs } = await file.stat();
  if (size !== facts.size || mtimeMs !== facts.mtimeMs) throw changed();
};

const pieceOf = async (file: ReadableFile, from: number, to: number): Promise<Uint8Array> => {
  const piece = new Uint8Array(to - from);
  for (let at = 0; at < piece.length; ) {
    const { bytesRead } = await file.read(piece, at, piece.length - at, from + at);
    if (bytesRead === 0) throw changed();
    at += bytesRead;
  }
  return piece;
};

const writeAll = async (target: WritableFile, bytes: Uint8Array, position: number): Promise<void> => {
  for (let at = 0; at < bytes.length; )
    at += (await target.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
};

const fileOf = (bytes: Uint8Array): ReadableFile => ({
  stat: async () => ({ size: bytes.length, mtimeMs: 0 }),
  read: async (buffer, offset, length, position) => {
    const part = bytes.subarray(position, position + length);
    buffer.set(part, offset);
    return { bytesRead: part.length };
  },
});

type Hash = { update(bytes: Uint8Array): void; finish(): string };

/** Loaded when it is needed: a browser has no hash that takes a file bit by bit. */
const newHash = async (): Promise<Hash> => {
  const { createHash } = await import('node:crypto');
  const hash = createHash('sha256');
  return {
    update: (bytes) => {
      hash.update(bytes);
    },
    finish: () => `sha256:${hash.digest('hex')}`,
  };
};

const digestOf = async (file: ReadableFile, bytes: number): Promise<string> => {
  const hash = await newHash();
  for (let at = 0; at < bytes; at += PIECE_BYTES)
    hash.update(await pieceOf(file, at, Math.min(bytes, at + PIECE_BYTES)));
  return hash.finish();
};

/** Objects of a bucket that are too large for one piece of memory: written in parts, read in ranges; and lists of them. */
import { type Bucket, isMissing, type Opened } from './bucket.ts';

/** A part of an upload, as the bucket names it. */
export type Part = {
  readonly number: number;
  readonly bytes: number;
  readonly etag: string;
  /** As the SDK asks for it back; undefined where the server keeps none. */
  readonly crc32: string | undefined;
  readonly storedAt: number;
};

export type Found = { readonly key: string; readonly storedAt: number };
type Upload = { readonly key: string; readonly uploadId: string };

/** A note beside the objects, not an object of a user. */
const NOTE_BYTES_MAX = 4096;

/** null where what it asks for is not there. */
const orNull = async <T>(work: Promise<T>): Promise<T | null> => {
  try {
    return await work;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
};

export class BucketObjects {
  readonly #bucket: Bucket;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  /** The text of a small object. */
  note(key: string): Promise<{ text: string; storedAt: number } | null> {
    return this.#run(`give ${key}`, 0, async ({ client, library }, abortSignal, Bucket) => {
      const command = new library.GetObjectCommand({ Bucket, Key: key });
      const got = await orNull(client.send(command, { abortSignal }));
      if (got === null) return null;
      if ((got.ContentLength ?? 0) > NOTE_BYTES_MAX)
        throw new Error('it is larger than any that was written');
      const text = (await got.Body?.transformToString()) ?? '';
      return { text, storedAt: got.LastModified?.getTime() ?? 0 };
    });
  }

  /** null where there is no such object. */
  bytesOf(key: string): Promise<number | null> {
    return this.#run(`say how large ${key} is`, 0, async ({ client, library }, abortSignal, Bucket) => {
      const command = new library.HeadObjectCommand({ Bucket, Key: key });
      const got = await orNull(client.send(command, { abortSignal }));
      return got === null ? null : (got.ContentLength ?? 0);
    });
  }

  /**
   * @param to exclusive, and above `from`
   * @returns fewer bytes where the object ends before `to`; null where there is no such object
   */
  range(key: string, from: number, to: number): Promise<Uint8Array | null> {
    return this.#run(`give ${key}`, to - from, async ({ client, library }, abortSignal, Bucket) => {
      const command = new library.GetObjectCommand({ Bucket, Key: key, Range: `bytes=${from}-${to - 1}` });
      const got = await orNull(client.send(command, { abortSignal }));
      if (got === null) return null;
      return got.Body!.transformToByteArray();
    });
  }

  async *list(prefix: string): AsyncGenerator<Found> {
    for (let token: string | undefined, isFirst = true; isFirst || token !== undefined; isFirst = false) {
      const page = await this.#run('list', 0, ({ client, library }, abortSignal, Bucket) => {
        const next = token === undefined ? {} : { ContinuationToken: token };
        const command = new library.ListObjectsV2Command({ Bucket, Prefix: prefix, ...next });
        return client.send(command, { abortSignal });
      });
      for (const { Key, LastModified } of page.Contents ?? [])
        if (Key !== undefined) yield { key: Key, storedAt: LastModified?.getTime() ?? 0 };
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    }
  }

  /** @returns the id of an upload in parts */
  begin(key: string): Promise<string> {
    return this.#run('begin an upload', 0, async ({ client, library }, abortSignal, Bucket) => {
      const command = new library.CreateMultipartUploadCommand({
        Bucket,
        Key: key,
        ChecksumAlgorithm: 'CRC32',
      });
      const { UploadId } = await client.send(command, { abortSignal });
      if (UploadId === undefined) throw new Error('it gives the upload no id');
      return UploadId;
    });
  }

  /** null where there is no such upload any more. */
  putPart({ key, uploadId }: Upload, number: number, bytes: Uint8Array): Promise<Part | null> {
    const what = `take a part of ${bytes.byteLength} bytes`;
    return this.#run(what, bytes.byteLength, async ({ client, library }, abortSignal, Bucket) => {
      const command = new library.UploadPartCommand({
        ...{ Bucket, Key: key, UploadId: uploadId, PartNumber: number, Body: bytes },
        ChecksumAlgorithm: 'CRC32',
      });
      const taken = await orNull(client.send(command, { abortSignal }));
      if (taken === null) return null;
      const { ETag = '', ChecksumCRC32 } = taken;
      return { number, bytes: bytes.byteLength, etag: ETag, crc32: ChecksumCRC32, storedAt: Date.now() };
    });
  }

  /** The parts that the bucket has, in order; null where there is no such upload. */
  async parts({ key, uploadId }: Upload): Promise<Part[] | null> {
    const found: Part[] = [];
    for (let marker: string | undefined, isFirst = true; isFirst || marker !== undefined; isFirst = false) {
      const page = await this.#run(
        'list the parts of an upload',
        0,
        ({ client, library }, abortSignal, Bucket) => {
          const next = marker === undefined ? {} : { PartNumberMarker: marker };
          const command = new library.ListPartsCommand({ Bucket, Key: key, UploadId: uploadId, ...next });
          return orNull(client.send(command, { abortSignal }));
        },
      );
      if (page === null) return null;
      for (const { PartNumber = 0, Size = 0, ETag = '', ChecksumCRC32, LastModified } of page.Parts ?? [])
        found.push({
          ...{ number: PartNumber, bytes: Size, etag: ETag, crc32: ChecksumCRC32 },
          storedAt: LastModified?.getTime() ?? 0,
        });
      marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    }
    return found;
  }

  /**
   * Makes the object of its parts. Where another has done so already, servers answer as if it were done now.
   *
   * @returns the tag of the object; null: a part was written again, or the upload is gone
   */
  join({ key, uploadId }: Upload, parts: readonly Part[]): Promise<string | null> {
    return this.#run('join an upload', 0, async ({ client, library }, abortSignal, Bucket) => {
      const Parts = parts.map(({ number, etag, crc32 }) => ({
        ...{ PartNumber: number, ETag: etag },
        ...(crc32 === undefined ? {} : { ChecksumCRC32: crc32 }),
      }));
      const command = new library.CompleteMultipartUploadCommand({
        ...{ Bucket, Key: key, UploadId: uploadId, MultipartUpload: { Parts } },
      });
      try {
        return (await client.send(command, { abortSignal })).ETag ?? '';
      } catch (error) {
        if (isMissing(error) || (error instanceof Error && error.name === 'InvalidPart')) return null;
        throw error;
      }
    });
  }

  async abort({ key, uploadId }: Upload): Promise<void> {
    await this.#run('drop an upload', 0, ({ client, library }, abortSignal, Bucket) => {
      const command = new library.AbortMultipartUploadCommand({ Bucket, Key: key, UploadId: uploadId });
      return orNull(client.send(command, { abortSignal }));
    });
  }

  #run<T>(
    what: string,
    bytes: number,
    work: (opened: Opened, signal: AbortSignal, bucket: string) => Promise<T>,
  ): Promise<T> {
    return this.#bucket.run(what, bytes, (opened, signal) => work(opened, signal, this.#bucket.name));
  }
}

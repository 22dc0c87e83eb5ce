/** The TypeScript client against a real server with a real handler process. */
import { tableFromArrays } from 'apache-arrow';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CallFailedError,
  type CallHandle,
  ChunkFailedError,
  type ChunkProgress,
  type RemoteFunction,
  Sluice,
  TimeoutError,
} from '../../sdk/index.ts';
import { type Deployment, eventually } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

onEveryStore((store) => {
  let server: Deployment;
  let client: Sluice;
  let lengths: RemoteFunction<{ text: string }, number>;

  beforeAll(async () => {
    server = await store.start();
    await server.deploy('test/fixtures/functions/texts.ts');
    client = new Sluice({ url: server.url });
    lengths = client.function('length');
  });
  afterAll(() => server?.dispose());

  const texts = (count: number): { text: string }[] =>
    Array.from({ length: count }, (_, i) => ({ text: 'x'.repeat(i % 50) }));
  const expected = (count: number): number[] => Array.from({ length: count }, (_, i) => i % 50);

  /** Holds the function while `work` runs, so that its calls are there and not finished. */
  const paused = async (work: () => Promise<void>): Promise<void> => {
    await client.pause('length');
    try {
      await work();
    } finally {
      await client.resume('length');
    }
  };

  describe('a call', () => {
    it('answers row for row, waiting or by a handle', async () => {
      expect(await lengths.call([{ text: 'abc' }, { text: '' }])).toEqual([3, 0]);
      const handle = await lengths.deferBatch(texts(500));
      expect(await handle.get()).toEqual(expected(500));
      expect((await handle.status()).counts.ok).toBe(500);
    });

    it('takes columns, bare values, Arrow tables, and no rows', async () => {
      const table = tableFromArrays({ text: ['a', 'bb'] });
      for (const input of [{ text: ['a', 'bb'] }, ['a', 'bb'], table] as const)
        expect(await client.function('length').call(input as never)).toEqual([1, 2]);
      expect(await lengths.call([])).toEqual([]);
      expect(await lengths.call({ text: [] })).toEqual([]);
    });

    it('gives lists of numbers as typed arrays', async () => {
      const [first] = await client.function<{ text: string }, Float32Array>('vector').call([{ text: 'ab' }]);
      expect(first).toEqual(Float32Array.of(2, 97, 0.5, -1));
    });

    it('whose rows failed throws with the errors by row and the others’ results', async () => {
      const failure = await lengths.call([{ text: 'a' }, { text: 'bad' }]).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(CallFailedError);
      const { errors, partial, callId } = failure as CallFailedError;
      expect([...errors.keys()]).toEqual([1]);
      expect(errors.get(1)).toMatchObject({ kind: 'BadText', message: 'this text is bad' });
      expect(partial).toEqual([1, null]);
      expect((await client.call(callId).status()).status).toBe('failed');
    });

    it('of a function that is not there says so', async () => {
      await expect(client.function('nothing').deferBatch([{ a: 1 }])).rejects.toMatchObject({
        code: 'function_not_found',
      });
      await expect(client.call('nothing').status()).rejects.toMatchObject({ code: 'call_not_found' });
    });

    it('with the same key attaches, with another body is refused', async () => {
      const first = await lengths.deferBatch([{ text: 'a' }], { idempotencyKey: 'k1' });
      const second = await lengths.deferBatch([{ text: 'a' }], { idempotencyKey: 'k1' });
      expect(second.callId).toBe(first.callId);
      expect(second.submitted?.attached).toBe(true);
      await expect(lengths.deferBatch([{ text: 'b' }], { idempotencyKey: 'k1' })).rejects.toMatchObject({
        code: 'idempotency_mismatch',
      });
    });
  });

  describe('a handle', () => {
    it('that has waited long enough leaves the call alive, for another handle to finish', async () => {
      let handle!: CallHandle<number>;
      await paused(async () => {
        handle = await lengths.deferBatch([{ text: 'late' }], { metadata: { who: 'tëst' } });
        await expect(handle.get({ timeoutMs: 50 })).rejects.toBeInstanceOf(TimeoutError);
        await expect(lengths.call([{ text: 'late' }], { timeoutMs: 50 })).rejects.toBeInstanceOf(
          TimeoutError,
        );
        expect((await handle.status()).metadata).toEqual({ who: 'tëst' });
      });
      expect(await client.call<number>(handle.callId).get()).toEqual([4]);
    });

    it('cancels, twice without harm', async () => {
      await paused(async () => {
        const handle = await lengths.deferBatch([{ text: 'no' }]);
        expect((await handle.cancel()).status).toBe('cancelled');
        expect((await handle.cancel()).status).toBe('cancelled');
        await expect(handle.get()).rejects.toMatchObject({ name: 'CallFailedError', code: 'row_cancelled' });
      });
    });

    it('tells progress until the end', async () => {
      const seen: string[] = [];
      let watching!: Promise<void>;
      await paused(async () => {
        const handle = await lengths.deferBatch(texts(10));
        watching = (async () => {
          for await (const call of handle.events()) seen.push(call.status);
        })();
        await eventually('a first event', async () => seen.length > 0);
      });
      await watching;
      expect(seen[0]).toBe('pending');
      expect(seen.at(-1)).toBe('completed');
    });

    it('stops waiting when its signal aborts', async () => {
      await paused(async () => {
        const handle = await lengths.deferBatch([{ text: 'a' }]);
        const abort = new AbortController();
        const waiting = handle.get({ signal: abort.signal });
        abort.abort(new Error('enough'));
        await expect(waiting).rejects.toThrow('enough');
      });
    });
  });

  describe('a chunked call', () => {
    it('joins the chunks in row order and tells progress', async () => {
      const progress: ChunkProgress[] = [];
      const { result, errors } = await lengths.chunkedCall(texts(503), {
        chunkSize: 50,
        concurrentChunks: 4,
        onProgress: (step) => progress.push(step),
      });
      expect(result).toEqual(expected(503));
      expect(errors.size).toBe(0);
      expect(progress).toHaveLength(11);
      expect(progress.at(-1)).toEqual({ rowsDone: 503, rowsTotal: 503, chunksDone: 11, chunksTotal: 11 });
    });

    it('cuts Arrow tables and takes none', async () => {
      const table = tableFromArrays({ text: ['a', 'bb', 'ccc'] });
      expect((await lengths.chunkedCall(table as never, { numChunks: 2 })).result).toEqual([1, 2, 3]);
      expect((await lengths.chunkedCall([], { numChunks: 2 })).result).toEqual([]);
    });

    it('has what it has read kept for minutes only', async () => {
      await (await lengths.deferBatch(texts(3), { lane: 'kept' })).get();
      await lengths.chunkedCall(texts(3), { chunkSize: 1, lane: 'read' });
      const { calls } = await client.calls({ function: 'length' });
      const kept = calls
        .filter(({ lane }) => lane === 'kept' || lane === 'read')
        .map(({ lane, finished_at, expires_at }) => [
          lane,
          Date.parse(expires_at!) - Date.parse(finished_at!) < 3_600_000,
        ]);
      expect(kept.sort()).toEqual([
        ['kept', false],
        ['read', true],
        ['read', true],
        ['read', true],
      ]);
    });

    it('names the chunk that failed', async () => {
      const rows = texts(100);
      rows[42] = { text: 'bad' };
      const failure = await lengths.chunkedCall(rows, { chunkSize: 10 }).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ChunkFailedError);
      expect(failure).toMatchObject({ chunk: 4, fromRow: 40, rows: 10 });
      expect((failure as Error).message).toContain('this text is bad');
    });

    it('gives null for the rows that failed or were refused, and only for them', async () => {
      const rows: { text: string | null }[] = texts(100);
      rows[42] = { text: 'bad' };
      rows[44] = { text: null };
      const column = tableFromArrays({ text: rows.map(({ text }) => text) });
      for (const given of [rows, column]) {
        const { result, errors } = await lengths.chunkedCall(given as never, {
          chunkSize: 10,
          onError: 'null',
        });
        expect([...errors.keys()]).toEqual([42, 44]);
        expect(errors.get(44)!.message).toMatch(/^column "text".* row 44\b/);
        expect(result.flatMap((value, row) => (value === null ? [row] : []))).toEqual([42, 44]);
      }
    });

    it('cancels what is in flight when it is aborted', async () => {
      await paused(async () => {
        const abort = new AbortController();
        const running = lengths.chunkedCall(texts(30), {
          chunkSize: 10,
          concurrentChunks: 2,
          signal: abort.signal,
          lane: 'aborted',
        });
        const mine = async () =>
          (await client.calls({ function: 'length' })).calls.filter(({ lane }) => lane === 'aborted');
        await eventually('two calls in flight', async () => (await mine()).length === 2);
        abort.abort(new Error('enough'));
        await expect(running).rejects.toThrow('enough');
        await eventually('two cancelled calls', async () =>
          (await mine()).every(({ status }) => status === 'cancelled'),
        );
      });
    });
  });

  describe('functions', () => {
    it('are listed, updated, paused, purged and kept while they are busy', async () => {
      expect((await client.functions()).map(({ name }) => name).sort()).toEqual(['length', 'vector']);
      const updated = await client.update('length', { max_batching_size: 32 });
      expect(updated.spec.max_batching_size).toBe(32);
      await paused(async () => {
        await lengths.deferBatch(texts(3));
        await expect(client.delete('length')).rejects.toMatchObject({ code: 'function_busy' });
        expect(await client.purge('length')).toEqual({ calls: 1, rows: 3 });
      });
    });

    it('have calls in pages, newest first', async () => {
      const first = await client.calls({ function: 'length', limit: 2 });
      expect(first.calls).toHaveLength(2);
      const second = await client.calls({ function: 'length', limit: 2, cursor: first.nextCursor! });
      const ids = [...first.calls, ...second.calls].map(({ call_id }) => call_id);
      expect(new Set(ids).size).toBe(4);
    });
  });
});

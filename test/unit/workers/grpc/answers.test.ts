/** What other servers may send: compressed or cut streams, several batches, envelopes around exceptions, plain statuses. */
import { execFileSync } from 'node:child_process';
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { streamToColumns } from '../../../../shared/arrow/index.ts';
import { outputOfMessage } from '../../../../workers/grpc/answer-columns.ts';
import { failureOf } from '../../../../workers/grpc/call-failure.ts';
import { PYTHON } from '../../../support/sluice-process.ts';

const INT = { type: 'int64', nullable: true } as const;

/** A stream as pyarrow writes it. */
const written = (compression: string | null, body: string): Uint8Array => {
  const option = compression === null ? 'None' : JSON.stringify(compression);
  const program = `
import pyarrow as pa, sys
batch = pa.RecordBatch.from_pydict({"result": list(range(100))})
sink = pa.BufferOutputStream()
writer = pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=${option}))
${body}
writer.close()
sys.stdout.buffer.write(sink.getvalue())`;
  return execFileSync(PYTHON, ['-c', program]);
};

describe('a message of an answer', () => {
  it.each(['lz4', 'zstd'])('that is compressed with %s is refused by name', (compression) => {
    expect(() => outputOfMessage(written(compression, 'writer.write_batch(batch)'), INT)).toThrow(
      /not a valid Arrow stream: .*its body is compressed; write the stream without compression/,
    );
  });

  it('may hold several batches, of another type as well', () => {
    const bytes = written(null, 'writer.write_batch(batch[:60])\nwriter.write_batch(batch[60:])');
    for (const type of ['int64', 'int8', 'float64']) {
      const output = outputOfMessage(bytes, { type, nullable: true });
      expect(output).toMatchObject({ rows: 100, refused: [] });
      expect([...(streamToColumns(output!.stream).result as number[])]).toEqual([...Array(100).keys()]);
    }
  });

  it('may hold nothing', () => {
    expect(outputOfMessage(new Uint8Array(0), INT)).toBeNull();
    expect(outputOfMessage(written(null, ''), INT)).toBeNull();
  });

  it('is refused when it is cut', () => {
    const bytes = written(null, 'writer.write_batch(batch)');
    expect(() => outputOfMessage(bytes.subarray(0, bytes.length - 100), INT)).toThrow(/is cut off/);
  });
});

const failed = (code: status, details: string): ServiceError =>
  Object.assign(new Error(details), { code, details, metadata: new Metadata() });
const EXCEPTION = JSON.stringify({
  chalk_remote_error: 1,
  exception: { kind: 'KeyError', message: 'x', stacktrace: 'at f', internal_stacktrace: '' },
});
const wrapped = (text: string, times: number): string =>
  times === 0 ? text : wrapped(JSON.stringify({ exc_type: 'E', message: text }), times - 1);

describe('the status of a failed call', () => {
  it.each([0, 1, 3])('is an exception also in %i envelopes', (times) => {
    expect(failureOf(failed(status.UNKNOWN, wrapped(EXCEPTION, times)), [])).toMatchObject({
      end: 'error',
      error: { code: 'handler_error', kind: 'KeyError', message: 'x', traceback: 'at f' },
      mro: ['KeyError'],
    });
  });

  it('is plain text where it is no exception of the contract', () => {
    for (const text of [
      '{}',
      '{"chalk_remote_error": 2}',
      '{"chalk_remote_error": 1}',
      wrapped(EXCEPTION, 4),
    ])
      expect(failureOf(failed(status.INTERNAL, text), [])).toMatchObject({
        end: 'error',
        error: { kind: 'gRPC INTERNAL', message: text },
        mro: [],
      });
  });

  it('is a crash when nobody answers, unless an exception stands in it', () => {
    expect(failureOf(failed(status.UNAVAILABLE, 'connection dropped'), [])).toMatchObject({
      end: 'crash',
      error: { code: 'handler_crashed' },
    });
    expect(failureOf(failed(status.UNAVAILABLE, EXCEPTION), [])).toMatchObject({ end: 'error' });
  });

  it.each([
    [status.OUT_OF_RANGE, 'Error, message length too large: found 5 bytes, the limit is: 4 bytes'],
    [status.RESOURCE_EXHAUSTED, 'Received message larger than max (5 vs 4)'],
  ])('names a limit of messages: %i %s', (code, text) => {
    expect(failureOf(failed(code, text), [])).toMatchObject({ error: { kind: 'MessageTooLarge' } });
  });
});

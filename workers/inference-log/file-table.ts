/** The rows of one file as an Arrow stream: what is known of each, its input and its output (docs/decisions/0018). */
import {
  numberColumn,
  type PickedRows,
  pickedFields,
  type RowRun,
  structColumn,
  type TextRun,
  tableStream,
  textColumn,
  valueColumn,
} from '../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../shared/domain/function.ts';
import { parquetField, parquetType } from '../../shared/parquet/parquet-type.ts';
import type { Sample, VersionFacts } from './sample.ts';
import type { SampledRun } from './sampling.ts';

/** Columns whose values repeat: they are written once, and counted. */
export const REPEATING_COLUMNS = [
  ...['model', 'model_version', 'function_version', 'attempt', 'batch_rows', 'handler_ms'],
  ...['status', 'error_code', 'error_message', 'time'],
];

const field = (name: string, type: TypeJson): FieldJson => ({ name, type, nullable: true });

/** The input columns as they are written. */
export const inputFields = ({ streams }: Sample, { inputs }: VersionFacts): readonly FieldJson[] =>
  pickedFields(streams, inputs).map(parquetField);

/**
 * One record batch of all samples, whose input columns are the same.
 * @throws CastError naming the column whose values cannot be written
 */
export const fileTable = (
  samples: readonly Sample[],
  facts: VersionFacts,
  callIdText: (callId: number) => string,
): Uint8Array => {
  const rows = samples.reduce((sum, sample) => sum + sample.rows, 0);
  const struct = parquetType({ struct: inputFields(samples[0]!, facts) });
  const columns = [
    ...factColumns(samples, rows, facts, callIdText),
    structColumn(
      samples.map(({ streams, runs }) => ({ streams, runs: runs.map(inputRun) })),
      field('input', struct),
    ),
    valueColumn(samples.map(outputOf), field('output', parquetType(facts.output))),
  ];
  return tableStream(columns, rows);
};

const inputRun = ({ input, count }: SampledRun): RowRun => ({ from: input, count });

const outputOf = ({ output, runs }: Sample): PickedRows => ({
  streams: output === null ? [] : [output],
  runs: runs.map((run) => ({ from: run.output, count: run.count })),
});

const factColumns = (
  samples: readonly Sample[],
  rows: number,
  facts: VersionFacts,
  callIdText: (callId: number) => string,
) => {
  const runs = samples.flatMap((sample) => sample.runs);
  const texts = (textOf: (run: SampledRun) => string | null): readonly TextRun[] =>
    runs.map((run) => ({ text: textOf(run), count: run.count }));
  const everywhere = (text: string): readonly TextRun[] => [{ text, count: rows }];
  const numbers = (name: string, type: TypeJson, numberOf: (sample: Sample) => number | bigint) =>
    numberColumn(field(name, type), rows, (values) => {
      let at = 0;
      for (const sample of samples) {
        const value = numberOf(sample);
        for (const end = at + sample.rows; at < end; at += 1) values[at] = value;
      }
    });
  return [
    numbers('time', { timestamp: 'ms', tz: 'UTC' }, ({ at }) => BigInt(at)),
    textColumn(
      field('call_id', 'utf8'),
      texts(({ callId }) => callIdText(callId)),
    ),
    rowColumn(runs, rows),
    textColumn(field('model', 'utf8'), everywhere(facts.model)),
    numbers('model_version', 'int32', () => facts.modelVersion),
    textColumn(field('function_version', 'utf8'), everywhere(facts.functionVersion)),
    numbers('attempt', 'int32', ({ attempt }) => attempt),
    numbers('batch_rows', 'int32', ({ batchRows }) => batchRows),
    numbers('handler_ms', 'float64', ({ handlerMs }) => handlerMs),
    textColumn(
      field('status', 'utf8'),
      texts(({ error }) => (error === null ? 'ok' : 'failed')),
    ),
    textColumn(
      field('error_code', 'utf8'),
      texts(({ error }) => error?.code ?? null),
    ),
    textColumn(
      field('error_message', 'utf8'),
      texts(({ error }) => error?.message ?? null),
    ),
  ];
};

const rowColumn = (runs: readonly SampledRun[], rows: number) =>
  numberColumn(field('row', 'int64'), rows, (values) => {
    let at = 0;
    for (const { row, count } of runs)
      for (let i = 0; i < count; i += 1) {
        values[at] = BigInt(row + i);
        at += 1;
      }
  });

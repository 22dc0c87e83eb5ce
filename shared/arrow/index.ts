/**
 * Arrow from socket to handler and back. Streams are verified once (`readStream`), then sliced, joined and passed on by their
 * buffers; only small JSON calls and JSON results ever become values.
 *
 * Values are built and read here rather than by a library, for measured reasons: a batch of 64 texts takes 26 µs to build and
 * encode (flechette 2.3: 140 µs), and flechette throws on 64-bit integers above 2^53 and on text in shared memory, and
 * reads replaced dictionaries wrongly. apache-arrow has no large_list.
 */
export {
  type ExactJson,
  type ExactNumber,
  type ExactNumbers,
  exactJson,
  isDoublePrint,
  isExactNumber,
  isInt64,
  isInteger,
  jsonWithBigInts,
} from './exact-json.ts';
export { exactNumbersFor } from './exact-values.ts';
export { FILE_MAGIC, type FileBlock, fileFooter } from './file-footer.ts';
export { buildInput, type InputPart, InputStream } from './input-build.ts';
export { isNullAt, matchInputs } from './input-match.ts';
export { columnStream, joinedColumns, joinedStream } from './joined-stream.ts';
export { type JsonBody, type JsonPayload, jsonToPayload } from './json-payload.ts';
export { checkNamed } from './named-inputs.ts';
export { NUMBER_ARRAYS, type Numbers } from './number-arrays.ts';
export { checkOutput, type Output } from './output-check.ts';
export {
  numberColumn,
  type PickedRows,
  pickedFields,
  pickedStream,
  type RowRun,
  structColumn,
  type TextRun,
  tableStream,
  textColumn,
  valueColumn,
  valueColumns,
} from './picked-rows.ts';
export { rowsToStream, streamToColumns, type TypedArray } from './plain-columns.ts';
export { type ResultOptions, resultArrow } from './result-arrow.ts';
export { type ResultJson, resultJson } from './result-json.ts';
export type { ResultPart, RowErrorRun } from './result-part.ts';
export { fieldsToSchemaMessage } from './schema-message.ts';
export { type ArrowStream, openStream, readStream, readStreamOnce } from './stream.ts';
export { batchRanges, type SliceSource, sliceStream } from './stream-slice.ts';
export { parseType, sameType, typeText } from './type-text.ts';
export { CastError } from './value-cast.ts';

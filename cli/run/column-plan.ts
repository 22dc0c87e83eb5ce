/** Which columns of the input go to the function, under which names, and which are kept beside the results. */
import type { Selection } from '../../sdk/table.ts';
import type { FieldJson } from '../../shared/domain/function.ts';
import { UsageError } from '../failure.ts';

export type ColumnPlan = {
  /** Column of the file → input of the function. */
  readonly sent: readonly Selection[];
  readonly kept: readonly string[];
  /** The declared types of what is sent, by column of the file. */
  readonly types: ReadonlyMap<string, FieldJson>;
};

export type ColumnRequest = {
  /** `--column` values: a column, or input=column. */
  readonly columns: readonly string[];
  /** `--keep` values; null: what is not sent. */
  readonly keep: readonly string[] | null;
  /** The function's inputs; null: any columns. */
  readonly inputs: readonly FieldJson[] | null;
  readonly functionName: string;
  readonly available: readonly string[];
  readonly hasErrors: boolean;
};

/** A name with blanks or separators in it is quoted, so that it is seen where it begins. */
const listed = (names: readonly string[]): string =>
  names.map((name) => (/^$|[\s,;]/.test(name) ? JSON.stringify(name) : name)).join(', ') || 'none';

const sentOf = (text: string, { inputs, available, functionName, columns }: ColumnRequest): Selection => {
  const equals = text.indexOf('=');
  const isRenamed = equals > 0 && !available.includes(text);
  const column = isRenamed ? text.slice(equals + 1) : text;
  if (!available.includes(column))
    throw new UsageError(
      `--column ${text}: the input has no column "${column}"; it has ${listed(available)}.`,
    );
  if (inputs === null) return { column, as: isRenamed ? text.slice(0, equals) : column };
  // One column for a function of one input needs no name.
  const isOnly = !isRenamed && inputs.length === 1 && columns.length === 1;
  const as = isRenamed ? text.slice(0, equals) : isOnly ? inputs[0]!.name : column;
  if (inputs.some(({ name }) => name === as)) return { column, as };
  throw new UsageError(
    `--column ${text}: ${functionName} has no input "${as}"; its inputs are ${listed(inputs.map(({ name }) => name))}. Rename with --column input=column.`,
  );
};

const defaultSent = ({ inputs, available, functionName }: ColumnRequest): Selection[] => {
  if (inputs === null) return available.map((column) => ({ column, as: column }));
  const missing = inputs.find(({ name }) => !available.includes(name));
  if (missing)
    throw new UsageError(
      `The input has no column "${missing.name}", which ${functionName} takes; it has ${listed(available)}. Name the column with --column ${missing.name}=COLUMN.`,
    );
  return inputs.map(({ name }) => ({ column: name, as: name }));
};

const checkComplete = (sent: readonly Selection[], { inputs, functionName }: ColumnRequest): void => {
  const missing = inputs?.find(({ name }) => !sent.some(({ as }) => as === name));
  if (missing)
    throw new UsageError(
      `${functionName} also takes "${missing.name}"; add --column ${missing.name}=COLUMN.`,
    );
  const twice = sent.find(({ as }, i) => sent.findIndex((other) => other.as === as) !== i);
  if (twice) throw new UsageError(`--column gives the input "${twice.as}" twice.`);
};

const keptOf = (sent: readonly Selection[], { keep, available }: ColumnRequest): readonly string[] => {
  if (keep === null) return available.filter((name) => !sent.some(({ column }) => column === name));
  if (keep.length === 1 && keep[0] === 'all' && !available.includes('all')) return available;
  if (keep.length === 1 && keep[0] === 'none' && !available.includes('none')) return [];
  const unknown = keep.find((name) => !available.includes(name));
  if (unknown !== undefined)
    throw new UsageError(`--keep ${unknown}: the input has no such column; it has ${listed(available)}.`);
  return [...new Set(keep)];
};

/** @throws UsageError naming the column, what there is, and the option that helps */
export const planColumns = (request: ColumnRequest): ColumnPlan => {
  const sent =
    request.columns.length === 0
      ? defaultSent(request)
      : request.columns.map((text) => sentOf(text, request));
  checkComplete(sent, request);
  const kept = keptOf(sent, request);
  const taken = request.hasErrors ? ['result', 'error'] : ['result'];
  const clash = kept.find((name) => taken.includes(name));
  if (clash !== undefined)
    throw new UsageError(
      `The input has a column "${clash}", as the output will; choose the columns to keep with --keep, or --keep none.`,
    );
  const types = new Map<string, FieldJson>();
  for (const { column, as } of sent) {
    const field = request.inputs?.find(({ name }) => name === as);
    if (field) types.set(column, field);
  }
  return { sent, kept, types };
};

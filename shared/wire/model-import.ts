/** The member `import` of a registration: what a model is called in the world of its inference engine, and back. */
import type { ModelImport } from '../domain/model.ts';
import type { ModelImportJson } from './model-api.ts';
import { MODEL_NAME, MODEL_NAME_RULE } from './model-members.ts';
import { bagOf, refuse } from './option-bag.ts';

const SUMMARY_MAX = 10_000;
const WORD_MAX = 256;
/** ImageNet has a thousand, its whole tree 22,000. */
const LABELS_MAX = 100_000;
const LABELS_BYTES_MAX = 4 * 2 ** 20;
const INDEX_MAX = 2 ** 31 - 1;

export const importOf = (value: unknown): ModelImport | null => {
  if (value === undefined || value === null) return null;
  const bag = bagOf(value, 'import', ['project', 'summary', 'version', 'task_type', 'class_labels']);
  return {
    project: bag.pattern('project', MODEL_NAME, MODEL_NAME_RULE),
    summary: (bag.raw('summary') ?? '') === '' ? '' : bag.text('summary', 1, SUMMARY_MAX),
    version: bag.optionalText('version', WORD_MAX),
    taskType: bag.optionalText('task_type', WORD_MAX),
    classLabels: labelsOf(bag.raw('class_labels'), 'import.class_labels'),
  };
};

const labelsOf = (value: unknown, where: string): Readonly<Record<string, number>> => {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value))
    return refuse(where, value, 'an object of labels and their indices');
  const entries = Object.entries(value as Record<string, unknown>);
  if (entries.length > LABELS_MAX) refuse(where, `${entries.length} labels`, `at most ${LABELS_MAX}`);
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes > LABELS_BYTES_MAX) refuse(where, `${bytes} bytes of JSON`, `at most ${LABELS_BYTES_MAX}`);
  for (const [label, index] of entries)
    if (!Number.isInteger(index) || (index as number) < 0 || (index as number) > INDEX_MAX)
      refuse(`${where}.${label.slice(0, 256)}`, index, `a whole number from 0 to ${INDEX_MAX}`);
  return Object.fromEntries(entries) as Record<string, number>;
};

export const presentImport = (imported: ModelImport): ModelImportJson => ({
  project: imported.project,
  summary: imported.summary,
  version: imported.version,
  task_type: imported.taskType,
  class_labels: imported.classLabels,
});

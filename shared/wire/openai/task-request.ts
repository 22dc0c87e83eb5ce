/** A request of any route that runs a function: what it asks for, its rows, and its answer from their values. */
import type { FieldJson, FunctionSpec, Task } from '../../domain/function.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import {
  type CompletionRequest,
  completionAnswer,
  completionColumns,
  parseCompletionRequest,
} from './completion.ts';
import {
  type EmbeddingRequest,
  embeddingAnswer,
  embeddingColumns,
  embeddingEntry,
  parseEmbeddingRequest,
  type Vector,
} from './embedding.ts';
import { isObject, refuse } from './request-members.ts';

export const ENDPOINTS = ['/v1/embeddings', '/v1/completions', '/v1/chat/completions'] as const;
export type Endpoint = (typeof ENDPOINTS)[number];

export type TaskRequest =
  | { readonly task: 'embedding'; readonly asked: EmbeddingRequest }
  | { readonly task: 'completion'; readonly asked: CompletionRequest };

export type AnswerFacts = { readonly id: string; readonly createdSeconds: number };

/** @throws SluiceError `invalid_request` */
export const parseTaskRequest = (endpoint: Endpoint, body: unknown): TaskRequest => {
  if (!isObject(body)) return refuse('body', body, 'an object');
  if (endpoint === '/v1/embeddings') return { task: 'embedding', asked: parseEmbeddingRequest(body) };
  return { task: 'completion', asked: parseCompletionRequest(body, endpoint === '/v1/chat/completions') };
};

export const requestRows = ({ task, asked }: TaskRequest): number =>
  task === 'embedding' ? asked.inputs.length : asked.prompts.length;

/** The input that a row was, as errors name it. */
export const rowField = ({ task, asked }: TaskRequest, row: number): string => {
  if (task === 'embedding') return `input[${row}]`;
  return asked.isChat ? 'messages' : `prompt[${row}]`;
};

const ROUTES: Readonly<Record<Task, string>> = {
  embedding: '/v1/embeddings',
  completion: '/v1/completions and /v1/chat/completions',
};

/** @throws SluiceError `invalid_request` where the function is not one of the task */
export const requestColumns = (
  { task, asked }: TaskRequest,
  { name, task: marked, inputs }: Pick<FunctionSpec, 'name' | 'task' | 'inputs'>,
): Record<string, readonly unknown[]> => {
  if (marked !== task) {
    const use =
      marked === undefined ? 'it has no task: call it as a function' : `use it with ${ROUTES[marked]}`;
    throw new SluiceError('invalid_request', `The model ${name} is not for ${ROUTES[task]}; ${use}.`, {
      field: 'model',
    });
  }
  const fields = inputs as readonly FieldJson[];
  return task === 'embedding' ? embeddingColumns(asked, fields) : completionColumns(asked, fields);
};

/**
 * The answer's JSON from one value a row, as Arrow has them.
 * @throws SluiceError `handler_output_invalid`, and `invalid_request` for more dimensions than there are
 */
export const requestAnswer = (
  request: TaskRequest,
  values: readonly unknown[],
  facts: AnswerFacts,
): string => {
  if (request.task === 'embedding') {
    const { head, tail } = embeddingAnswer(request.asked);
    const entries = values.map((value, i) => embeddingEntry(request.asked, i, value as Vector | null));
    return `${head}${entries.join()}${tail}`;
  }
  const texts = values.map((value, i) => {
    if (typeof value === 'string') return value;
    throw new SluiceError('handler_output_invalid', `The text of prompt ${i} is null.`);
  });
  return completionAnswer(request.asked, texts, facts);
};

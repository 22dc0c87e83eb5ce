/** What a request tells an engine beside its rows: the same facts that other handlers find in their context. */
import type { HandlerContext } from '../handler.ts';

export const inferenceHeaders = (context: HandlerContext): Record<string, string> => {
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    'x-sluice-function': context.functionName,
    'x-sluice-version': context.version,
    'x-sluice-batch': String(context.batchId),
    'x-sluice-attempt': String(context.attempt),
    'x-sluice-deadline-ms': context.deadlineAt === null ? null : String(context.deadlineAt),
    traceparent: context.traceparent,
  };
  return Object.fromEntries(
    Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== null),
  );
};

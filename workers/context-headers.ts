/** What handlers behind a network find of a batch's context, beside its rows; those that say nothing are left out. */
import type { HandlerContext } from './handler.ts';

export const contextHeaders = (context: HandlerContext): Record<string, string> => ({
  'x-sluice-function': context.functionName,
  'x-sluice-version': context.version,
  'x-sluice-batch': String(context.batchId),
  'x-sluice-attempt': String(context.attempt),
  ...(context.deadlineAt === null ? {} : { 'x-sluice-deadline-ms': String(context.deadlineAt) }),
  ...(context.traceparent === null ? {} : { traceparent: context.traceparent }),
});

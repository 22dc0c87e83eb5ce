/** What a request tells an engine beside its rows: the same facts that other handlers find in their context. */
import { contextHeaders } from '../context-headers.ts';
import type { HandlerContext } from '../handler.ts';

export const inferenceHeaders = (context: HandlerContext): Record<string, string> => ({
  'content-type': 'application/json',
  accept: 'application/json',
  ...contextHeaders(context),
});

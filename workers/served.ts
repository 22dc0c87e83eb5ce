/** What answers behind gRPC in a container or a pod; one rule for both back ends. */
import type { FunctionSpec } from '../shared/domain/function.ts';

/** The image by itself, our entry point with a handler of the image, or our entry point with the model version's class. */
export type Served = 'image' | 'handler' | 'class';

export const servedOf = ({ runtime, container, model, source }: FunctionSpec): Served => {
  if ((container?.handler ?? null) !== null) return 'handler';
  if (runtime === 'python') return 'class';
  return (container?.entrypoint ?? null) === null && model && source.length > 0 ? 'class' : 'image';
};

/** The rarely used fields of a call as one JSON text, null when all have their defaults. Clients write it, readers parse it. */
import type { Admission } from './ports/queue.ts';

export type Extra = Pick<Admission, 'lane' | 'priority' | 'schemaKey' | 'metadata' | 'traceparent'>;

const EMPTY: Readonly<Record<string, string>> = Object.freeze({});
const DEFAULTS: Extra = Object.freeze({
  lane: '',
  priority: 0,
  schemaKey: '',
  metadata: EMPTY,
  traceparent: null,
});

export const packExtra = ({ lane, priority, schemaKey, metadata, traceparent }: Extra): string | null => {
  const hasMetadata = Object.keys(metadata).length > 0;
  if (lane === '' && priority === 0 && schemaKey === '' && !hasMetadata && traceparent === null) return null;
  return JSON.stringify({
    ...(lane !== '' && { lane }),
    ...(priority !== 0 && { priority }),
    ...(schemaKey !== '' && { schemaKey }),
    ...(hasMetadata && { metadata }),
    ...(traceparent !== null && { traceparent }),
  });
};

export const parseExtra = (text: string | null): Extra =>
  text === null ? DEFAULTS : { ...DEFAULTS, ...(JSON.parse(text) as Partial<Extra>) };

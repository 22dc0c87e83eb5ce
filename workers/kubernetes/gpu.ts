/** GPU strings, `type:count`, as what a pod asks for: a number of devices, and nodes that have this type. */
import type { V1Toleration } from '@kubernetes/client-node';

const RESOURCE = 'nvidia.com/gpu';
/** A node has sixteen at most. */
const COUNT_MAX = 16;

export type Gpu = { readonly type: string; readonly count: number };

/** @throws Error that names the string and what is allowed */
export const gpuOf = (text: string): Gpu => {
  const [type = '', count = '1', ...rest] = text.split(':');
  const devices = /^\d{1,2}$/.test(count) ? Number(count) : 0;
  if (
    !/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/.test(type) ||
    rest.length > 0 ||
    devices < 1 ||
    devices > COUNT_MAX
  )
    throw new Error(
      `gpu=${JSON.stringify(text)} is no type and count; give such as "nvidia-l4" or "nvidia-tesla-t4:2", at most ${COUNT_MAX} devices`,
    );
  return { type, count: devices };
};

/** Words that name no type: any device will do. */
const ANY = new Set(['any', 'gpu', 'nvidia', 'nvidia-gpu']);

/** What the pod's spec gets; nothing for a replica without GPU. */
export const gpuPlacement = (
  text: string | null,
  label: string,
): {
  readonly limits: Readonly<Record<string, string>>;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: readonly V1Toleration[];
} => {
  if (text === null) return { limits: {}, nodeSelector: {}, tolerations: [] };
  const { type, count } = gpuOf(text);
  return {
    limits: { [RESOURCE]: String(count) },
    nodeSelector: label === '' || ANY.has(type.toLowerCase()) ? {} : { [label]: type },
    // GPU nodes are commonly tainted so that only what asks for their devices comes there.
    tolerations: [{ key: RESOURCE, operator: 'Exists', effect: 'NoSchedule' }],
  };
};

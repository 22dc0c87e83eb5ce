/** What a pod's status means for the replica that it is, in a few words. Pure. */
import type { V1ContainerStatus, V1Pod } from '@kubernetes/client-node';
import { HANDLER } from './pod-spec.ts';

export type PodState = {
  readonly name: string;
  readonly uid: string;
  /**
   * `starting`: it is being placed, pulled or loaded. `ready`: it takes batches. `failed`: it will not start without a
   * change or a retry of the kubelet. `leaving`: it is being deleted, or its node is. `ended`: what is left of a pod whose
   * place another one takes.
   */
  readonly phase: 'starting' | 'ready' | 'failed' | 'leaving' | 'ended';
  /** Why it is not ready; null while nothing is wrong. */
  readonly reason: string | null;
  /** null until it is placed. */
  readonly ip: string | null;
  /** One more with every run of its handler's container. */
  readonly runs: number;
  /** How the run before ended; null when there was none, or nobody knows. */
  readonly lastEnd: string | null;
};

/** A kubelet that says one of these waits longer and longer: what is wrong is not a matter of moments. */
const STUCK: ReadonlySet<string> = new Set([
  'CrashLoopBackOff',
  'ImagePullBackOff',
  'ErrImageNeverPull',
  'InvalidImageName',
  'ImageInspectError',
  'CreateContainerConfigError',
  'CreateContainerError',
  'RunContainerError',
  'PostStartHookError',
]);

const FIXES: Readonly<Record<string, string>> = {
  ImagePullBackOff: "check the image's name and --kubernetes-pull-secret",
  InvalidImageName: 'register the version with an image such as registry/name:tag',
  CreateContainerConfigError: 'check the secret that --kubernetes-secret names',
  OOMKilled: 'deploy with more memory',
};

const withFix = (text: string, reason: string | undefined): string => {
  const fix = FIXES[reason ?? ''];
  return fix === undefined ? text : `${text}; ${fix}`;
};

/** What a message of the kubelet adds: of a container that ended, the end of its log. */
const tail = (message: string | undefined): string => {
  const text = message?.trim() ?? '';
  return text === '' ? '' : `: ${text.slice(-2000)}`;
};

const endText = (status: V1ContainerStatus): string | null => {
  const end = status.state?.terminated ?? status.lastState?.terminated;
  if (!end) return null;
  const reason = end.reason ?? 'Error';
  return withFix(`${reason} (exit code ${end.exitCode}${tail(end.message)})`, reason);
};

const stuckText = (status: V1ContainerStatus, of: string): string | null => {
  const { reason, message } = status.state?.waiting ?? {};
  if (reason === undefined || !STUCK.has(reason)) return null;
  const end = endText(status);
  const text = end === null ? `${reason}${tail(message)}` : `${reason}: ended with ${end}`;
  return `${of}${end === null ? withFix(text, reason) : text}`;
};

const conditionOf = ({ status }: V1Pod, type: string) =>
  status?.conditions?.find((condition) => condition.type === type);

/** Why a pod that is not stuck is not there yet. */
const waitText = (pod: V1Pod, handler: V1ContainerStatus | undefined): string | null => {
  const placed = conditionOf(pod, 'PodScheduled');
  if (placed?.status === 'False' && placed.reason === 'Unschedulable')
    return `Unschedulable${tail(placed.message)}`;
  const { reason, message } = handler?.state?.waiting ?? {};
  if (reason === undefined || reason === 'ContainerCreating' || reason === 'PodInitializing') return null;
  return `${reason}${tail(message)}`;
};

const stuckReason = (pod: V1Pod, handler: V1ContainerStatus | undefined): string | null => {
  for (const status of pod.status?.initContainerStatuses ?? []) {
    const text = stuckText(status, `its init container ${status.name} fails: `);
    if (text !== null) return text;
  }
  return handler === undefined ? null : stuckText(handler, '');
};

const phaseOf = (pod: V1Pod, handler: V1ContainerStatus | undefined): Pick<PodState, 'phase' | 'reason'> => {
  const { status } = pod;
  // A lost node's pods stay for minutes; the condition is set at once.
  const disrupted = conditionOf(pod, 'DisruptionTarget');
  if (pod.metadata?.deletionTimestamp) return { phase: 'leaving', reason: 'it is being deleted' };
  if (status?.phase === 'Failed' || status?.phase === 'Succeeded') {
    const end = status.reason ?? (handler === undefined ? null : endText(handler)) ?? status.phase;
    return { phase: 'ended', reason: `the pod ended: ${end}${tail(status.message)}` };
  }
  if (disrupted?.status === 'True')
    return { phase: 'leaving', reason: `it is being evicted${tail(disrupted.message)}` };
  const stuck = stuckReason(pod, handler);
  if (stuck !== null) return { phase: 'failed', reason: stuck };
  if (conditionOf(pod, 'Ready')?.status === 'True' && status?.podIP) return { phase: 'ready', reason: null };
  return { phase: 'starting', reason: waitText(pod, handler) };
};

export const podState = (pod: V1Pod): PodState => {
  const handler = pod.status?.containerStatuses?.find(({ name }) => name === HANDLER);
  return {
    name: pod.metadata?.name ?? '',
    uid: pod.metadata?.uid ?? '',
    ...phaseOf(pod, handler),
    ip: pod.status?.podIP || null,
    runs: handler?.restartCount ?? 0,
    lastEnd: handler === undefined ? null : endText(handler),
  };
};

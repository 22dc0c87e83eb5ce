/** What of a function's options the process back end cannot honour, in words for a status answer. */
import type { FunctionSpec, ImageStep } from '../shared/domain/function.ts';
import type { Machine } from './backend.ts';
import { gpuRequest, isOfType, modelWord } from './gpu-devices.ts';
import { bytesText, canWatchMemory } from './memory-watch.ts';
import { pipArguments } from './python/virtual-environment.ts';

export type IgnoredOption = {
  readonly text: string;
  /** True: the handler may misbehave without it, so a strict server refuses the function. */
  readonly isBinding: boolean;
};

const ignoredStep = (spec: FunctionSpec, step: ImageStep): IgnoredOption | null => {
  if ('apt_install' in step) return { text: `apt_install ${step.apt_install.join(' ')}`, isBinding: true };
  const pip = pipArguments(step)?.join(' ');
  if (pip === undefined)
    return { text: `run ${JSON.stringify('run' in step ? step.run : '')}`, isBinding: true };
  if (spec.runtime !== 'python') return { text: `pip install ${pip}`, isBinding: true };
  if (spec.environment.isolated) return null;
  // The deploy ran in this interpreter: it is the author's word that the packages are there.
  const text = `pip install ${pip} (runs with the packages of the interpreter; deploy with --isolated to install)`;
  return { text, isBinding: false };
};

/** What of a GPU request this machine cannot give, or cannot tell whether it gives; null when it can. */
export const ignoredGpu = (gpu: string | null, { gpus, gpuNames = [] }: Machine): IgnoredOption | null => {
  const wanted = gpuRequest(gpu);
  if (wanted === null) return null;
  const asked = `gpu=${JSON.stringify(gpu)}`;
  const binding = (what: string): IgnoredOption => ({ text: `${asked}: ${what}`, isBinding: true });
  if (gpus === 0) return binding('this machine has no NVIDIA device');
  if (wanted.count > gpus) return binding(`this machine has ${gpus} NVIDIA device${gpus === 1 ? '' : 's'}`);
  if (gpuNames.length === 0)
    return modelWord(wanted.type) === undefined
      ? null
      : {
          text: `${asked}: nothing here tells the type of the NVIDIA devices; any is given`,
          isBinding: false,
        };
  // The driver counts its devices in one order and names them in another: a machine of several types is not sorted out.
  const others = [...new Set(gpuNames.filter((name) => !isOfType(wanted.type, name)))];
  return others.length === 0 ? null : binding(`this machine has ${others.join(', ')}`);
};

/** Options that are asked for and not honoured here; empty when all are. */
export const ignoredOptions = (spec: FunctionSpec, machine: Machine): IgnoredOption[] => {
  const { gpu, cpu, memoryBytes } = spec.resources;
  const ignored: IgnoredOption[] = [];
  const missing = ignoredGpu(gpu, machine);
  if (missing) ignored.push(missing);
  if (memoryBytes !== null && !canWatchMemory)
    ignored.push({ text: `memory=${bytesText(memoryBytes)}: it is held on Linux only`, isBinding: true });
  if (cpu !== null)
    ignored.push({
      text: `cpu=${cpu} sets thread counts here, it is no limit`,
      isBinding: false,
    });
  const { base } = spec.environment;
  if (base !== null)
    ignored.push({
      text: `image base ${JSON.stringify(base)}: functions run as processes of this machine`,
      isBinding: false,
    });
  for (const step of spec.environment.steps) {
    const found = ignoredStep(spec, step);
    if (found) ignored.push(found);
  }
  return ignored;
};

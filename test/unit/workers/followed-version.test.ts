/** Versions whose replicas something else counts, as a cluster's autoscaler: the host asks, obeys, and takes leave. */
import { expect, it } from 'vitest';
import { plainScaling, type Scaling } from '../../../shared/domain/scaling.ts';
import type { Backend, BackendFactory } from '../../../workers/backend.ts';
import { ProcessBackend } from '../../../workers/process-backend.ts';
import { GATED, nodeSpec, Rig } from './rig.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };
const specOf = (body: string) => nodeSpec(body, { batching: single, backend: 'kubernetes' });
const scaling = plainScaling({ min: 0, max: 5 });

/** Processes that somebody else counts: `decide` says how many, and `heard` has what the host said, by version. */
const counted = () => {
  const heard: string[] = [];
  const deciders = new Map<string, (replicas: number) => void>();
  const failers = new Map<string, (reason: string) => void>();
  const told = ({ minReplicas, maxReplicas }: Scaling): string => `${minReplicas} to ${maxReplicas}`;
  const factory: BackendFactory = async (parts) => {
    const processes = new ProcessBackend({
      ...parts,
      pythonDefault: null,
      environmentsDirectory: null,
      modulesDirectory: process.cwd(),
    });
    const backend: Backend = {
      ignored: (version) => processes.ignored(version),
      launch: (request) => processes.launch(request),
      stop: () => processes.stop(),
      follow: ({ digest, spec }, wanted, onReplicas, onFailure) => {
        // What it applies holds a digest of the source.
        heard.push(`follow ${digest} ${told(wanted)}, ${spec.source.length} file`);
        deciders.set(digest, onReplicas);
        failers.set(digest, onFailure);
        return {
          rescale: (to) => heard.push(`rescale ${digest} ${told(to)}`),
          end: async (how) => {
            heard.push(`end ${digest} ${how}`);
          },
        };
      },
    };
    return backend;
  };
  return { factory, heard, deciders, failers };
};

it('is served by as many replicas as the other says, and told what changes', async () => {
  const { factory, heard, deciders, failers } = counted();
  const rig = await Rig.open({ backends: { kubernetes: factory } });
  const old = await rig.deploy(specOf(GATED), { scaling });
  const { digest } = old.current;
  await expect.poll(() => heard).toEqual([`follow ${digest} 0 to 5, 1 file`]);
  deciders.get(digest)!(2);
  await rig.report(old, ({ ready }) => ready === 2);
  expect((await rig.run(old, ['a'])).status).toBe('completed');
  failers.get(digest)!('the cluster has no room');
  await rig.report(old, ({ reason }) => reason === 'the cluster has no room');
  await rig.store.registry.update({
    now: Date.now(),
    name: 'f',
    update: { scaling: { ...scaling, maxReplicas: 9 } },
  });
  await expect.poll(() => heard.slice(1)).toEqual([`rescale ${digest} 0 to 9`]);
  deciders.get(digest)!(1);
  await rig.report(old, ({ ready, replicas }) => ready === 1 && replicas?.length === 1);

  const staged = await rig.deploy(specOf(`${GATED}// 2`), { isStaged: true });
  const next = staged.staged!.digest;
  // It has to show that it can start, also where it may have none later.
  await expect.poll(() => heard.slice(2)).toEqual([`follow ${next} 1 to 9, 1 file`]);
  deciders.get(next)!(1);
  await rig.report(staged, ({ ready }) => ready === 1, staged.staged!);
  await rig.store.registry.settleStaged({ now: Date.now(), name: 'f', digest: next, end: 'activate' });
  await expect
    .poll(() => heard.slice(3), { timeout: 10_000 })
    .toEqual([`rescale ${next} 0 to 9`, `end ${digest} remove`]);
  await rig.workers.stop();
  expect(heard.slice(5)).toEqual([`end ${next} keep`]);
});

/** Versions whose replicas something else counts, as a cluster's autoscaler: the host asks, obeys, and takes leave. */
import { expect, it } from 'vitest';
import { plainScaling, type Scaling } from '../../../shared/domain/scaling.ts';
import type { Backend, BackendFactory, HandlerInstance } from '../../../workers/backend.ts';
import { ProcessBackend } from '../../../workers/process-backend.ts';
import { GATED, Gate, nodeSpec, Rig, withVerbs } from './rig.ts';

const single = { sizeRows: 1, durationMs: 1, bytesMax: 2 ** 26 };
const specOf = (body: string) => nodeSpec(body, { batching: single, backend: 'kubernetes' });
const scaling = plainScaling({ min: 0, max: 5 });

const leavable = (handler: HandlerInstance) => {
  let listener: (reason: string | null) => void = () => undefined;
  let isLeaving = false;
  const instance = withVerbs(handler, {
    onService: (given) => {
      listener = given;
    },
    run: (...args) => (isLeaving ? Promise.resolve({ end: 'unstarted' }) : handler.run(...args)),
  });
  const leave = (reason: string): void => {
    isLeaving = true;
    listener(reason);
  };
  return { instance, leave };
};

/** Processes that somebody else counts: `decide` says how many, and `heard` has what the host said, by version. */
const counted = () => {
  const heard: string[] = [];
  const deciders = new Map<string, (replicas: number) => void>();
  const failers = new Map<string, (reason: string) => void>();
  /** By replica: it finishes what it runs, and takes nothing more. */
  const leavers = new Map<number, (reason: string) => void>();
  const told = ({ minReplicas, maxReplicas }: Scaling): string => `${minReplicas} to ${maxReplicas}`;
  const factory: BackendFactory = async (parts) => {
    const processes = new ProcessBackend({
      ...parts,
      pythonDefault: null,
      environmentsDirectory: null,
      environmentsBytesMax: 2 ** 40,
      modulesDirectory: process.cwd(),
    });
    const backend: Backend = {
      ignored: (version) => processes.ignored(version),
      launch: async (request) => {
        const { instance, leave } = leavable(await processes.launch(request));
        leavers.set(request.replica, leave);
        return instance;
      },
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
  return { factory, heard, deciders, failers, leavers };
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
  await expect.poll(() => heard.slice(3)).toEqual([`rescale ${next} 0 to 9`, `end ${digest} remove`]);
  await rig.workers.stop();
  expect(heard.slice(5)).toEqual([`end ${next} keep`]);
});

it('lets the one go that leaves while it runs, and goes on with the others', async () => {
  const { factory, deciders, leavers } = counted();
  const rig = await Rig.open({ backends: { kubernetes: factory } });
  const record = await rig.deploy(specOf(GATED), { scaling });
  const { digest } = record.current;
  await expect.poll(() => deciders.has(digest)).toBe(true);
  deciders.get(digest)!(2);
  await rig.report(record, ({ ready }) => ready === 2);
  expect([...leavers.keys()].toSorted()).toEqual([0, 1]);
  const gate = new Gate(rig, 'gate');
  const first = await rig.submit(record, [gate.path]);
  let busy = -1;
  await rig.report(record, ({ replicas = [] }) => {
    busy = replicas.find(({ runningRows }) => runningRows > 0)?.index ?? -1;
    return busy >= 0;
  });
  leavers.get(busy)!('its pod leaves');
  await rig.report(record, ({ replicas = [] }) =>
    replicas.some(({ index, state, reason }) => index === busy && state === 'starting' && reason !== null),
  );
  deciders.get(digest)!(1);
  expect((await rig.run(record, ['a'])).status).toBe('completed');
  await gate.open();
  expect((await rig.finished(first)).status).toBe('completed');
  await rig.report(record, ({ replicas }) => replicas?.length === 1);
});

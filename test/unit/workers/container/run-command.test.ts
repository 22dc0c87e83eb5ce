/** What podman and docker are told: mounts, ports, limits, devices, and what nobody else on the machine may read. */
import { describe, expect, it } from 'vitest';
import type { FunctionSpec } from '../../../../shared/domain/function.ts';
import { buildArgs, usesHostNetwork } from '../../../../workers/container/options.ts';
import {
  ownStart,
  type RunParts,
  runCommand,
  servedStart,
} from '../../../../workers/container/run-command.ts';
import { PLAIN_SPEC } from '../../../support/function-spec.ts';

const SPEC: FunctionSpec = {
  ...PLAIN_SPEC,
  runtime: 'container',
  resources: { cpu: 1.5, memoryBytes: 2 ** 30, gpu: 'nvidia-l4:2' },
  environment: { ...PLAIN_SPEC.environment, env: { TOKEN: 'secret value', PATH: '/bin' } },
  container: {
    image: { reference: 'x' },
    entrypoint: null,
    port: 9000,
    handler: 'model.handler',
    onStartup: 'model.warm',
  },
};
const PARTS: RunParts = {
  kind: 'podman',
  args: [],
  limits: { memory: true, cpu: true },
  image: 'x',
  spec: SPEC,
  place: { name: 'sluice-f-0-ab', hostPort: 20_001, isHostNetwork: false },
  start: { command: null, env: {}, mounts: [] },
  artifacts: '/models/a',
  devices: [0, 3],
  labels: { 'sluice.owner': 'me' },
};
const valuesOf = (args: readonly string[], flag: string): (string | undefined)[] =>
  args.flatMap((arg, i) => (arg === flag ? [args[i + 1]] : []));

describe('the command of a container', () => {
  it('publishes its port to loopback, limits it and lays the files over it, read-only', () => {
    const { args } = runCommand(PARTS);
    expect(args.slice(0, 5)).toEqual(['run', '--name', 'sluice-f-0-ab', '--pull', 'never']);
    expect(valuesOf(args, '--publish')).toEqual(['127.0.0.1:20001:9000']);
    expect(valuesOf(args, '--memory')).toEqual(['1073741824b']);
    expect(valuesOf(args, '--cpus')).toEqual(['1.5']);
    expect(valuesOf(args, '--mount')).toEqual(['type=bind,source=/models/a,target=/app/artifacts,readonly']);
    expect(valuesOf(args, '--label')).toEqual(['sluice.owner=me']);
    expect(args.at(-1)).toBe('x');
  });

  it('leaves out limits that the machine cannot hold', () => {
    const { args } = runCommand({ ...PARTS, limits: { memory: false, cpu: false } });
    expect([...valuesOf(args, '--memory'), ...valuesOf(args, '--cpus')]).toEqual([]);
  });

  it('names variables, so that their values stand in no command line, but for what the tool reads itself', () => {
    const { args, env } = runCommand(PARTS);
    expect(valuesOf(args, '--env')).toContain('TOKEN');
    expect(args.join(' ')).not.toContain('secret');
    expect(env).toMatchObject({ TOKEN: 'secret value', PORT: '9000', CHALK_REMOTE_CALL_PORT: '9000' });
    expect(valuesOf(args, '--env')).toContain('PATH=/bin');
    expect(env).not.toHaveProperty('PATH');
  });

  it('hands devices out by the tool at hand', () => {
    expect(valuesOf(runCommand(PARTS).args, '--device')).toEqual(['nvidia.com/gpu=0', 'nvidia.com/gpu=3']);
    expect(valuesOf(runCommand({ ...PARTS, kind: 'docker' }).args, '--gpus')).toEqual(['"device=0,3"']);
  });

  it('is told its port where it shares the network of the machine', () => {
    const place = { ...PARTS.place, isHostNetwork: true };
    const { args, env } = runCommand({ ...PARTS, place, args: ['--network', 'host'] });
    expect(valuesOf(args, '--publish')).toEqual([]);
    expect(env.PORT).toBe('20001');
  });

  it('goes last with its words, which no shell reads', () => {
    const start = { ...PARTS.start, command: ['python3', '-m', 'a b', '$HOME'] };
    const { args } = runCommand({ ...PARTS, start });
    expect(args.slice(-6)).toEqual(['--entrypoint', 'python3', 'x', '-m', 'a b', '$HOME']);
  });
});

describe('what a container starts', () => {
  const config = { entrypoint: ['serve'], command: ['--port', '8080', '--name', '8080'] };

  it.each([
    [config, ['serve', '--port', '20001', '--name', '8080']],
    [{ entrypoint: ['serve', '--port=8080'], command: [] }, ['serve', '--port=20001']],
    [
      { entrypoint: ['sh', '-c', 'exec serve --port 8080 --x'], command: [] },
      ['sh', '-c', 'exec serve --port 20001 --x'],
    ],
  ])('is the command of the image on another port: %j', (given, told) => {
    expect(ownStart(null, given, 20_001, true).command).toEqual(told);
  });

  it('is left to the image where nothing changes', () => {
    expect(ownStart(null, config, 8080, false).command).toBeNull();
    expect(ownStart(null, { entrypoint: ['serve'], command: [] }, 20_001, true).command).toBeNull();
    expect(ownStart(['other', '--port', '1'], config, 8080, false).command).toEqual(['other', '--port', '1']);
  });

  it('is our entry point for a handler, from a package that is laid over the image', () => {
    const places = { pythonPath: '/python', source: '/source', functionFile: null };
    const { command, env, mounts } = servedStart(SPEC, 20_001, true, places);
    expect(command!.join(' ')).toBe(
      'python3 -m sluice.remote_call --handler model.handler --on-startup model.warm --host 127.0.0.1 --port 20001',
    );
    expect(env.PYTHONPATH).toBe('/opt/sluice/source:/opt/sluice/python');
    expect(mounts).toEqual([
      { from: '/python/sluice', to: '/opt/sluice/python/sluice' },
      { from: '/source', to: '/opt/sluice/source' },
    ]);
  });

  it('is our entry point for a class', () => {
    const places = { pythonPath: '/python', source: '/source', functionFile: '/f.json' };
    const { command, mounts } = servedStart(SPEC, 8080, false, places);
    expect(command).toContain('--model-directory');
    expect(command!.join(' ')).toMatch(/--host 0\.0\.0\.0 --port 8080$/);
    expect(mounts).toContainEqual({ from: '/f.json', to: '/opt/sluice/function.json' });
  });
});

describe('the flags of the setting', () => {
  const ARGS =
    '--runtime runc --network host --cgroups=no-conmon --ulimit nofile=1024:1024 --privileged'.split(' ');

  it('go to builds as far as builds know them', () => {
    expect(buildArgs(ARGS).join(' ')).toBe('--runtime runc --network host --ulimit nofile=1024:1024');
    expect(buildArgs(['--network=host', '--cpus=2'])).toEqual(['--network=host']);
  });

  it.each([
    [ARGS, true],
    [['--network=host'], true],
    [['--net', 'host'], true],
    [['--network', 'bridge', '--add-host', 'host'], false],
    [[], false],
  ])('say whether the network is the machine’s: %j', (args, isHost) => {
    expect(usesHostNetwork(args)).toBe(isHost);
  });
});

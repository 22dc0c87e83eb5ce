/** How an engine is started and ended, as a process, and what containers and pods of one are told. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { engineStart, type ownStart, runCommand } from '../../../../workers/container/run-command.ts';
import { EngineProcess } from '../../../../workers/http/engine-process.ts';
import { EngineReplica } from '../../../../workers/http/engine-replica.ts';
import { objectsOf } from '../../../../workers/kubernetes/objects.ts';
import { podTemplate } from '../../../../workers/kubernetes/pod-spec.ts';
import { FIXED, imageVersion, OPTIONS } from '../../../kubernetes/image-version.ts';
import { freePort } from '../../../support/free-port.ts';
import { Rig } from '../rig.ts';
import { ENGINE, engineSpec, wayward } from './engine-spec.ts';
import { modelOf } from './model-files.ts';

const MODEL = {
  name: 'house',
  version: 3,
  files: [{ path: 'm.bin', digest: `sha256:${'a'.repeat(64)}`, bytes: 100 }],
  loader: null,
};

/** A process that nobody has asked about after its end is a zombie; one that was asked about is gone, also between two looks. */
const stateOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]![0]!;
  } catch {
    return 'gone';
  }
};

/** A Node program as an engine's process. */
const program = (body: string, lines: string[] = []): EngineProcess => {
  const behind = new EngineProcess({
    command: { command: process.execPath, args: ['-e', body], env: {}, cwd: '/' },
    memoryBytesMax: null,
    onLine: (stream, text) => lines.push(`${stream}: ${text}`),
  });
  onTestFinished(async () => {
    behind.kill('the test is over');
    await behind.gone;
  });
  return behind;
};

const replicaOf = async (behind: EngineProcess, readyMsMax: number): Promise<EngineReplica> => {
  const port = await freePort();
  const address = { host: '127.0.0.1', port };
  return new EngineReplica({
    address,
    probePort: port,
    place: 'x',
    spec: engineSpec({}),
    behind,
    readyMsMax,
  });
};

describe('an engine as a process', () => {
  it('runs in the folder of its model, and its output is collected', async () => {
    const { artifacts, model } = await modelOf('house', { 'weights/a.bin': 'w' });
    const rig = await Rig.open({ artifacts });
    const record = await rig.deploy(engineSpec(wayward(path.join(rig.directory, 'state')), { model }));
    const { values } = await rig.run(record, ['env']);
    const env = JSON.parse(values[0] as string);
    expect(env.SLUICE_MODEL_PATH).toBe(env.cwd);
    expect(env.cwd).not.toBe(rig.directory);
    expect(JSON.parse((await rig.run(record, ['files'])).values[0] as string)).toEqual(['weights']);
    await rig.workers.stop();
    const log = await rig.store.registry.logs({ name: record.name, limit: 100 });
    expect(log.map(({ text }) => text)).toEqual([`listening on ${env.PORT}`, 'told to leave']);
  });

  it('that is never ready is ended, with what it was asked and what it said', async () => {
    const lines: string[] = [];
    const replica = await replicaOf(
      program('console.error("no such weights"); setInterval(() => 0, 1000)', lines),
      400,
    );
    await expect(replica.ready).rejects.toThrow(
      /^it was not ready after 0.4 s: GET \/ready on port \d+: nobody listens there/,
    );
    expect(await replica.gone).toBe('it could not start');
  });

  it('that ends while it starts says so with the end of its output', async () => {
    const replica = await replicaOf(
      program('console.error("no such weights"); process.exitCode = 3'),
      60_000,
    );
    await expect(replica.ready).rejects.toThrow('it left with code 3\nno such weights');
  });

  it('that is not there is named', async () => {
    const command = { command: '/no/such/engine', args: [], env: {}, cwd: '/' };
    const behind = new EngineProcess({ command, memoryBytesMax: null, onLine: () => undefined });
    expect(await behind.gone).toBe('/no/such/engine could not be started');
    expect(behind.tail().join()).toContain('not found');
  });

  it('ends with a server that is killed', async () => {
    const connected = Promise.withResolvers<Socket>();
    const witness = createServer((socket) => connected.resolve(socket)).listen(0, '127.0.0.1');
    onTestFinished(() => void witness.close());
    await once(witness, 'listening');
    const { port } = witness.address() as AddressInfo;
    const engine = `require('node:net').connect(${port}, '127.0.0.1'); process.on('SIGTERM', () => {});`;
    const module = pathToFileURL(path.resolve('workers/http/engine-process.ts')).href;
    const command = { command: process.execPath, args: ['-e', engine], env: {}, cwd: '/' };
    const server = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      `import { EngineProcess } from ${JSON.stringify(module)};
       new EngineProcess({ command: ${JSON.stringify(command)}, memoryBytesMax: null, onLine: () => {} });`,
    ]);
    const socket = await connected.promise;
    const ended = once(socket.resume(), 'close');
    server.kill('SIGKILL');
    await ended;
  });

  it('that does not leave when it is told is killed, and all that it started with it', async () => {
    const started = Promise.withResolvers<number>();
    const behind = new EngineProcess({
      command: {
        command: '/bin/sh',
        args: ['-c', 'trap "" TERM; sleep 1000 & echo $!; wait; wait'],
        env: { PATH: '/usr/bin:/bin' },
        cwd: '/',
      },
      memoryBytesMax: null,
      onLine: (_, text) => started.resolve(Number(text)),
    });
    const child = await started.promise;
    behind.leave(100);
    expect(await behind.gone).toBe('it was stopped');
    // The signal reaches each process of the group at a moment of its own.
    await expect.poll(() => stateOf(child)).toMatch(/^(gone|Z)$/);
  });
});

describe('an engine in a container', () => {
  const engine = {
    ...ENGINE,
    image: 'x',
    probe: { ...ENGINE.probe, port: 8081 },
    env: { PORT: '1', A: '2' },
  };
  const spec = engineSpec(engine, { model: MODEL });
  const config = { entrypoint: ['/entry'], command: ['serve'] };
  const place = { name: 'n', hostPort: 20_001, probeHostPort: 20_002, isHostNetwork: false };
  const commandOf = (start: ReturnType<typeof ownStart>) =>
    runCommand({
      ...{ kind: 'podman', args: [], limits: { memory: true, cpu: true }, image: 'x', spec, place, start },
      ...{ artifacts: '/models/a', devices: [], labels: {} },
    });

  it('publishes both ports, mounts the files where engines look, and gets our variables', () => {
    const { args, env } = commandOf(engineStart(spec, engine, config, 8080, false));
    const line = args.join(' ');
    expect(line).toContain('--publish 127.0.0.1:20001:8080 --publish 127.0.0.1:20002:8081');
    expect(line).toContain('type=bind,source=/models/a,target=/mnt/models,readonly');
    expect(args.at(-1)).toBe('x');
    expect(env).toMatchObject({
      A: '2',
      PORT: '8080',
      SLUICE_MODEL_PATH: '/mnt/models',
      CHARIOT_MODEL_ID: 'house',
    });
  });

  it('runs the command with its port, or the entrypoint of the image with other arguments', () => {
    const own = { ...engine, command: ['serve', '--port={port}'] };
    expect(commandOf(engineStart(spec, own, config, 8080, false)).args.slice(-4)).toEqual([
      '--entrypoint',
      'serve',
      'x',
      '--port=8080',
    ]);
    const { args } = commandOf(engineStart(spec, { ...engine, args: ['fast'] }, config, 8080, false));
    expect(args.slice(-4)).toEqual(['--entrypoint', '/entry', 'x', 'fast']);
  });
});

describe('an engine in a pod', () => {
  const engine = { ...ENGINE, image: 'registry/engine:1', command: ['serve', '{port}'], args: undefined };
  const { args: _, ...own } = engine;
  const version = { ...imageVersion({}), spec: engineSpec(own, { model: MODEL, backend: 'kubernetes' }) };

  it('is its image with its command, its files, its variables and its own probe', () => {
    const { containers, initContainers } = podTemplate(version, OPTIONS, false).spec!;
    expect(containers[0]).toMatchObject({
      image: 'registry/engine:1',
      command: ['serve', '8080'],
      ports: [{ name: 'http', containerPort: 8080 }],
      readinessProbe: { httpGet: { path: '/ready', port: 8080 }, failureThreshold: 2 },
      volumeMounts: expect.arrayContaining([{ name: 'artifacts', mountPath: '/mnt/models', readOnly: true }]),
      env: expect.arrayContaining([{ name: 'CHARIOT_MODEL_PATH', value: '/mnt/models' }]),
    });
    expect(initContainers?.[0]?.args).toContain('/mnt/models');
  });

  it('has a service with the port of its pods', () => {
    const service = objectsOf(version, FIXED, OPTIONS, 'none').find(({ kind }) => kind === 'Service');
    expect(service).toMatchObject({ spec: { ports: [{ name: 'http', port: 8080, targetPort: 'http' }] } });
  });

  it('needs an image', () => {
    const bare = { ...version, spec: engineSpec({ ...own, image: null }, { backend: 'kubernetes' }) };
    expect(() => podTemplate(bare, OPTIONS, false)).toThrow(
      /engine wayward 1 has no image .* backend="process"/,
    );
  });
});

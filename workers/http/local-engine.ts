/** An engine as a process of this machine: on a free port of its own, in the folder of its model's files. */
import { tmpdir } from 'node:os';
import type { FunctionVersion } from '../../shared/domain/function.ts';
import type { HandlerInstance } from '../backend.ts';
import { EngineProcess, type EngineProcessOptions } from './engine-process.ts';
import { EngineReplica, engineIn } from './engine-replica.ts';
import { engineCommand, engineVariables } from './engine-variables.ts';

/** Replicas of this machine are spoken to over loopback alone. */
const HOST = '127.0.0.1';

export type LocalEngine = {
  readonly version: FunctionVersion;
  readonly port: number;
  /** Absolute path of the model's files; null: it has none. */
  readonly modelDirectory: string | null;
  /** What it gets of our own environment. */
  readonly inherited: Readonly<Record<string, string>>;
  /** Wins over all others: which devices are its own. */
  readonly devices: Readonly<Record<string, string>>;
  readonly onLine: EngineProcessOptions['onLine'];
};

export const startLocalEngine = (local: LocalEngine): HandlerInstance => {
  const { version, port, modelDirectory, inherited, devices, onLine } = local;
  const { spec } = version;
  const engine = engineIn(spec);
  const [command, ...args] = engineCommand(engine, port) ?? [];
  if (command === undefined)
    throw new Error(
      `the engine ${engine.name} ${engine.version} has no command, and no process can run an image`,
    );
  const cwd = modelDirectory ?? tmpdir();
  const env = { ...inherited, ...engineVariables(spec, engine, { port, modelPath: cwd }), ...devices };
  const memoryBytesMax = spec.resources.memoryBytes;
  const behind = new EngineProcess({ command: { command, args, env, cwd }, memoryBytesMax, onLine });
  const own = engine.probe.port;
  return new EngineReplica({
    address: { host: HOST, port },
    // The engine's declared port is the one that it was given here; another one is another server of its own.
    probePort: own === null || own === engine.port ? port : own,
    place: behind.pid === undefined ? null : String(behind.pid),
    spec,
    behind,
  });
};

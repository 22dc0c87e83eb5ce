/** A handler server as a child process, and a replica that speaks to it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  InputStream,
  rowsToStream,
  streamToColumns,
  type TypedArray,
} from '../../../../shared/arrow/index.ts';
import type { FieldJson, FunctionSpec } from '../../../../shared/domain/function.ts';
import { type Behind, RemoteReplica } from '../../../../workers/grpc/remote-replica.ts';
import type { HandlerAnswer, HandlerBatch, HandlerContext } from '../../../../workers/handler.ts';
import { freePort } from '../../../support/free-port.ts';
import { PLAIN_SPEC } from '../../../support/function-spec.ts';
import { PYTHON } from '../../../support/sluice-process.ts';

export const CONTEXT: HandlerContext = {
  functionName: 'f',
  version: 'abc',
  batchId: 12,
  attempt: 2,
  calls: [],
  deadlineAt: 1_900_000_000_000,
  traceparent: '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01',
};

export const specOf = (
  inputs: readonly FieldJson[] | null,
  output: FunctionSpec['output'],
  name = 'f',
): FunctionSpec => ({ ...PLAIN_SPEC, name, runtime: 'container', inputMode: 'table', inputs, output });

export const field = (name: string, type: FieldJson['type'], nullable = true): FieldJson => ({
  name,
  type,
  nullable,
});

/** A child process as what stands behind a replica. */
const behindOf = (child: ChildProcess): Behind => ({
  gone: once(child, 'exit').then(([code, signal]) =>
    signal ? `it died of ${signal}` : `it left with code ${code}`,
  ),
  usage: () => Promise.resolve(null),
  kill: () => void child.kill('SIGKILL'),
  leave: () => void child.kill('SIGTERM'),
});

export type HandlerServer = {
  readonly child: ChildProcess;
  readonly port: number;
  /** One that does not serve yet. */
  readonly starting: (spec: FunctionSpec) => RemoteReplica;
  readonly replica: (spec: FunctionSpec) => Promise<RemoteReplica>;
  readonly output: () => string;
  readonly stop: () => Promise<void>;
};

export type ServerCommand = (port: number) => readonly [command: string, ...args: string[]];

export const ours =
  (...options: string[]): ServerCommand =>
  (port) => [PYTHON, '-m', 'sluice.remote_call', '--host', '127.0.0.1', '--port', String(port), ...options];

/** Starts a server in a directory that holds `model.py`. */
export const startServer = async (module: string, command: ServerCommand): Promise<HandlerServer> => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-handler-'));
  writeFileSync(path.join(directory, 'model.py'), module);
  const port = await freePort();
  const [program, ...args] = command(port);
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  const exited = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    rmSync(directory, { recursive: true, force: true });
  };
  const behind = behindOf(child);
  const starting = (spec: FunctionSpec): RemoteReplica =>
    new RemoteReplica({ address: `127.0.0.1:${port}`, place: 'test', spec, behind, readyMsMax: 60_000 });
  const replica = async (spec: FunctionSpec): Promise<RemoteReplica> => {
    const made = starting(spec);
    await made.ready;
    return made;
  };
  return { child, port, starting, replica, output: () => output, stop };
};

type Columns = Readonly<Record<string, readonly unknown[] | TypedArray>>;

export const batchOf = (columns: Columns, fields?: readonly FieldJson[]) => {
  const rows = Object.values(columns)[0]?.length ?? 0;
  return { rows, parts: [new InputStream([rowsToStream(columns, fields)])] };
};

export const runBatch = (
  replica: RemoteReplica,
  batch: HandlerBatch,
  signal = new AbortController().signal,
  begun = () => {},
): Promise<HandlerAnswer> => replica.run(batch, CONTEXT, signal, begun);

/** The answer's rows as plain values; fails with the error otherwise. */
export const valuesOf = (answer: HandlerAnswer): unknown[] => {
  if (answer.end !== 'ok') throw new Error(JSON.stringify(answer));
  return answer.outputs.flatMap(({ stream }) => [...(streamToColumns(stream).result as unknown[])]);
};

/**
 * (a) Callers that send one row and wait for its answer; each row is durable before it is accepted. The echo does no
 * work at all; mosec does the same work and stores nothing; the floor stores what was answered, and promises nothing else.
 */
import { find, interleave, type Options } from '../comparison.ts';
import { discard, startSluice } from '../peers/sluice.ts';
import { atLeast, below, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import {
  echoEndpoint,
  floorEndpoint,
  mosecEndpoint,
  rowsSubject,
  sluiceEndpoint,
  startEcho,
  startFloor,
  startMosec,
} from './rows-load.ts';

export const title = 'Single-row JSON calls with Prefer: wait, batches of 64, 5 ms, durable';

const CONNECTIONS = [32, 128, 512];
const WAIT_SECONDS = 30;

const settingOf = (connections: number): string => `${connections} connections`;

const figuresOf = (measurements: readonly Measurement[]): Figure[] =>
  CONNECTIONS.flatMap((connections) => {
    const setting = settingOf(connections);
    const [ours, echo, floor, mosec] = ['sluice', 'echo', 'floor', 'mosec'].map((name) =>
      find(measurements, name, setting),
    );
    const perEcho = ours!.rowsPerSecond / echo!.rowsPerSecond;
    return [
      connections === 32
        ? below(`p50 at ${setting}`, ours!.p50Ms!, 'ms', 7)
        : atLeast(`sluice / echo at ${setting}`, perEcho, '×', 0.9),
      connections === 32
        ? plain(`p50 at ${setting}, sluice / floor`, ours!.p50Ms! / floor!.p50Ms!, '×')
        : plain(`floor / echo at ${setting}`, floor!.rowsPerSecond / echo!.rowsPerSecond, '×'),
      plain(`sluice / mosec at ${setting}`, ours!.rowsPerSecond / mosec!.rowsPerSecond, '×'),
      plain(`CPU a row, sluice / echo at ${setting}`, ours!.cpuMicrosPerRow / echo!.cpuMicrosPerRow, '×'),
    ];
  });

export const run = async (options: Options): Promise<ScenarioResult> => {
  await using peers = new AsyncDisposableStack();
  const echo = await startEcho();
  peers.defer(echo.stop);
  const floor = await startFloor();
  peers.defer(floor.stop);
  const mosec = await startMosec('mosec_rows.py', { LOAD_HANDLER: 'lengths' });
  peers.defer(mosec.stop);
  const sluice = await startSluice(['lengths']);
  peers.defer(() => discard(sluice));

  const measurements: Measurement[] = [];
  const notes: string[] = [];
  for (const connections of CONNECTIONS) {
    const subjects = [
      rowsSubject('sluice', sluice, sluiceEndpoint('lengths', WAIT_SECONDS), connections, options.seconds),
      rowsSubject('echo', echo, echoEndpoint, connections, options.seconds),
      rowsSubject('floor', floor, floorEndpoint, connections, options.seconds),
      rowsSubject('mosec', mosec, mosecEndpoint, connections, options.seconds),
    ];
    const compared = await interleave(settingOf(connections), subjects, options);
    measurements.push(...compared.measurements);
    notes.push(...compared.remarks);
  }
  return { measurements, figures: figuresOf(measurements), notes };
};

/**
 * (b) One device that takes 20 ms for any batch of up to 64 rows, and 512 callers: 3,200 rows/s would be ideal. What is lost is
 * time in which the device waited, or ran a batch that was not full.
 */
import { find, interleave, type Options } from '../comparison.ts';
import { discard, startSluice } from '../peers/sluice.ts';
import { atLeast, below, plain, type ScenarioResult } from '../record.ts';
import { mosecEndpoint, rowsSubject, sluiceEndpoint, startMosec } from './rows-load.ts';

export const title = 'One simulated GPU (20 ms a batch, batches of 64, one replica), 512 callers';

const CALLERS = 512;
const BATCH_MS = 20;
const IDEAL_ROWS_PER_SECOND = 64 / (BATCH_MS / 1000);
const WAIT_SECONDS = 30;

export const run = async (options: Options): Promise<ScenarioResult> => {
  await using peers = new AsyncDisposableStack();
  const mosec = await startMosec('mosec_rows.py', { LOAD_HANDLER: 'simulated_gpu' });
  peers.defer(mosec.stop);
  const sluice = await startSluice(['simulated_gpu']);
  peers.defer(() => discard(sluice));
  const endpoint = sluiceEndpoint('simulated_gpu', WAIT_SECONDS);
  const subjects = [
    rowsSubject('sluice', sluice, endpoint, CALLERS, options.seconds),
    rowsSubject('mosec', mosec, mosecEndpoint, CALLERS, options.seconds),
  ];
  const setting = `${CALLERS} callers`;
  const { measurements, remarks } = await interleave(setting, subjects, options);
  const [ours, theirs] = [find(measurements, 'sluice', setting), find(measurements, 'mosec', setting)];
  const share = (rowsPerSecond: number): number => (100 * rowsPerSecond) / IDEAL_ROWS_PER_SECOND;
  return {
    measurements,
    figures: [
      atLeast('share of the ideal, sluice', share(ours.rowsPerSecond), '%', 97),
      plain('share of the ideal, mosec', share(theirs.rowsPerSecond), '%'),
      below('p50, sluice', ours.p50Ms! / BATCH_MS, 'batch times', 9),
      plain('p50, mosec', theirs.p50Ms! / BATCH_MS, 'batch times'),
    ],
    notes: remarks,
  };
};

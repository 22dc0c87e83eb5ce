/**
 * What sampling every row costs: the handler of the bulk scenario as a model, in two scaling groups of one server, one of which
 * keeps all its rows in the inference store. Above what one thread encodes, rows are dropped: the figures say how many are kept.
 */
import { readFileSync } from 'node:fs';
import { find, interleave, type Options, type Subject } from '../comparison.ts';
import { PYTHON } from '../peers/peer.ts';
import { ask, discard, type SluicePeer, startSluice } from '../peers/sluice.ts';
import { atLeast, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import { makeFrames } from './bulk-frames.ts';
import { ARROW, CALL_ROWS, concurrently, post, ROWS, repeated, WIDTHS } from './bulk-passes.ts';

export const title = 'A model whose rows all go to the inference store, beside the same model without';

const GROUPS = ['sampled', 'plain'] as const;
type GroupName = (typeof GROUPS)[number];
/** A file is full long before. */
const FLUSH_MS = 10_000;

const base64 = (text: string | Buffer): string => Buffer.from(text).toString('base64');

const modelOf = (width: number): string => `
import pyarrow as pa
from handlers import vectors

class Model:
    def predict(self, df):
        found = vectors(df.to_arrow()["text"].to_pylist(), ${width})
        return {"vector": pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), ${width})}
`;

const deploy = async (api: SluicePeer, width: number): Promise<void> => {
  const item = { name: 'item', type: 'float32', nullable: true };
  const model = `vectors-${width}`;
  await ask(api, 'POST', `/v1/models/${model}/versions`, {
    inputs: [{ name: 'text', type: 'utf8', nullable: true }],
    outputs: [{ name: 'vector', type: { fixed_size_list: item, size: width }, nullable: true }],
    handler: { file: 'model.py', attribute: 'Model' },
    interpreter: PYTHON,
    source: [
      { path: 'model.py', content: base64(modelOf(width)) },
      {
        path: 'handlers.py',
        content: base64(readFileSync(new URL('../peers/handlers.py', import.meta.url))),
      },
    ],
  });
  for (const group of GROUPS)
    await ask(api, 'PUT', `/v1/scaling-groups/${group}-${width}`, {
      ...{ model, max_batching_size: 1000, max_buffer_duration: 5 },
      inference_store: group === 'sampled' ? { sample_rate: 1, flush_ms: FLUSH_MS } : null,
    });
};

/** Rows of a group's function by what became of them: stored or dropped. */
const sampledRows = async (api: SluicePeer, width: number, status: 'stored' | 'dropped'): Promise<number> => {
  const text = await (await fetch(`${api.url}/metrics`)).text();
  const line = new RegExp(
    `^sluice_inference_rows_total\\{function="model.sampled-${width}",status="${status}"\\} (\\d+)`,
    'm',
  );
  return Number(line.exec(text)?.[1] ?? 0);
};

const subjectOf = (
  api: SluicePeer,
  group: GroupName,
  frames: readonly Buffer[],
  width: number,
  seconds: number,
): Subject => {
  const url = `${api.url}/v1/functions/model.${group}-${width}/calls`;
  const headers = { 'content-type': ARROW, accept: ARROW, prefer: 'wait=120' };
  const pass = () => concurrently(frames, (frame) => post(url, frame, headers));
  return repeated({ name: group, parts: { sluice: [api.pid] }, rows: ROWS, width, seconds, pass });
};

const figuresOf = (measurements: readonly Measurement[], setting: string, keptShare: number): Figure[] => {
  const [sampled, bare] = GROUPS.map((group) => find(measurements, group, setting));
  return [
    atLeast(`sampled / not, ${setting}`, sampled!.rowsPerSecond / bare!.rowsPerSecond, '×', 0.5),
    plain(`CPU a row, sampled / not, ${setting}`, sampled!.cpuMicrosPerRow / bare!.cpuMicrosPerRow, '×'),
    plain(`rows kept of those sampled, ${setting}`, 100 * keptShare, '%'),
  ];
};

export const run = async (options: Options): Promise<ScenarioResult> => {
  const frames = makeFrames(ROWS, CALL_ROWS);
  await using peers = new AsyncDisposableStack();
  const sluice = await startSluice([]);
  peers.defer(() => discard(sluice));
  const result = { measurements: [] as Measurement[], figures: [] as Figure[], notes: [] as string[] };
  for (const width of WIDTHS) {
    await deploy(sluice, width);
    const setting = `${width} floats`;
    const subjects = GROUPS.map((group) => subjectOf(sluice, group, frames, width, options.seconds));
    const { measurements, remarks } = await interleave(setting, subjects, options);
    const [stored, dropped] = [
      await sampledRows(sluice, width, 'stored'),
      await sampledRows(sluice, width, 'dropped'),
    ];
    result.measurements.push(...measurements);
    result.figures.push(...figuresOf(measurements, setting, stored / (stored + dropped)));
    result.notes.push(...remarks);
  }
  return result;
};

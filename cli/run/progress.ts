/** How a run shows itself: a bar with rows/s and time left on a terminal, a line now and then elsewhere. */
import { Presets, SingleBar } from 'cli-progress';
import { span } from '../print.ts';

export type Progress = {
  /** `total` is an estimate where only the end of the file tells. */
  update(rows: number, total: number): void;
  /** A line on standard error, above the bar. */
  say(line: string): void;
  stop(): void;
};

const SILENT: Progress = {
  update: () => undefined,
  say: (line) => process.stderr.write(line),
  stop: () => undefined,
};

/** Rows/s over the last while, so that a slow start or a resumed beginning does not colour the rest. */
const WINDOW_MS = 15_000;

export class Rate {
  readonly #marks: { readonly at: number; readonly rows: number }[] = [];

  /** Rows per second; null until there are two marks. */
  add(rows: number, at: number): number | null {
    this.#marks.push({ at, rows });
    while (this.#marks.length > 2 && at - this.#marks[0]!.at > WINDOW_MS) this.#marks.shift();
    const first = this.#marks[0]!;
    return at - first.at < 500 ? null : ((rows - first.rows) / (at - first.at)) * 1000;
  }
}

/** Logs of a pipeline show that it goes on, and are not filled. */
const LINE_MS = 30_000;

const texts = (rows: number, total: number, perSecond: number | null): { rate: string; left: string } => ({
  rate: perSecond === null ? '' : `${Math.round(perSecond).toLocaleString('en')} rows/s`,
  left: perSecond === null || perSecond <= 0 ? '' : `${span(((total - rows) / perSecond) * 1000)} left`,
});

/** A line each half minute. `now`: monotonic milliseconds. */
export const makeLines = (
  say: (line: string) => unknown = (line) => process.stderr.write(line),
  now: () => number = () => performance.now(),
): Progress => {
  const rate = new Rate();
  let saidAt = now();
  return {
    update: (rows, total) => {
      const at = now();
      const { rate: speed, left } = texts(rows, total, rate.add(rows, at));
      if (at - saidAt < LINE_MS) return;
      saidAt = at;
      const counts = `${rows.toLocaleString('en')} of ${total.toLocaleString('en')} rows`;
      say(`${[counts, speed, left].filter((text) => text !== '').join(', ')}\n`);
    },
    say,
    stop: () => undefined,
  };
};

/** Columns of the longest texts beside a bar, of a file of some hundred million rows. */
const TEXT_COLUMNS = 58;

/** The numbers come first, and the bar has what is left of the line: a terminal cuts what is too long. */
export const barLayout = (columns: number): { format: string; barsize: number } => {
  if (columns < TEXT_COLUMNS + 8) return { format: '{percentage}%  {value} rows  {left}', barsize: 0 };
  return {
    format: '{percentage}%  {value}/{total} rows  {rate}  {left}  {bar}',
    barsize: Math.min(40, columns - TEXT_COLUMNS),
  };
};

const makeBar = (): Progress => {
  const bar = new SingleBar(
    {
      ...barLayout(process.stderr.columns || 80),
      stream: process.stderr,
      clearOnComplete: true,
      etaBuffer: 10,
    },
    Presets.shades_classic,
  );
  const rate = new Rate();
  let isStarted = false;
  return {
    update: (rows, total) => {
      const perSecond = rate.add(rows, performance.now());
      if (!isStarted) bar.start(Math.max(total, rows, 1), rows, { rate: '', left: '' });
      isStarted = true;
      bar.setTotal(Math.max(total, rows, 1));
      bar.update(rows, texts(rows, total, perSecond));
    },
    // The bar draws itself again below at its next tick.
    say: (line) => process.stderr.write(`\r\u001b[K${line}`),
    stop: () => bar.stop(),
  };
};

/** A bar moves the cursor: a file, a pipe, TERM=dumb and NO_COLOR are for plain lines. */
export const makeProgress = (isJson: boolean): Progress => {
  if (isJson) return SILENT;
  return process.stderr.isTTY && process.stderr.hasColors() ? makeBar() : makeLines();
};

/** How a run shows itself: a bar with rows/s and time left on a terminal, else nothing until the end. */
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

export const makeProgress = (isShown: boolean): Progress => {
  if (!isShown) return SILENT;
  const bar = new SingleBar(
    {
      format: '{bar} {percentage}%  {value}/{total} rows  {rate}  {left}',
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
      bar.update(rows, {
        rate: perSecond === null ? '' : `${Math.round(perSecond).toLocaleString('en')} rows/s`,
        left: perSecond === null || perSecond <= 0 ? '' : `${span(((total - rows) / perSecond) * 1000)} left`,
      });
    },
    // The bar draws itself again below at its next tick.
    say: (line) => process.stderr.write(`\r\u001b[K${line}`),
    stop: () => bar.stop(),
  };
};

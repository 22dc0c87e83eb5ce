/** Inference files and drift as tables for people. */
import type { ColumnDriftJson, DriftJson, InferenceFileJson } from '../../sdk/index.ts';
import { byteText } from '../models/group-views.ts';
import { ago, counted, printTable, span } from '../print.ts';

/** Above it, a PSI is commonly called a shift. */
const SHIFTED_PSI = 0.2;

export const printFiles = (files: readonly InferenceFileJson[]): void => {
  printTable(
    ['FROM', 'UNTIL', 'ROWS', 'SIZE', 'MODEL', 'VERSION', 'KEPT FOR'],
    files.map((file) => [
      file.from,
      file.until,
      String(file.rows),
      byteText(file.bytes),
      file.model,
      String(file.model_version),
      span(Date.parse(file.expires_at) - Date.now()),
    ]),
  );
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  process.stdout.write(`${counted(files.length, 'file')}, ${counted(rows, 'row')}, ${byteText(bytes)}\n`);
};

const figure = (value: number | null): string => (value === null ? '-' : value.toFixed(4));

/** The largest first. */
const byPsi = (a: ColumnDriftJson, b: ColumnDriftJson): number => (b.psi ?? -1) - (a.psi ?? -1);

const computed = ({ figures, due_at }: DriftJson, now: number): string => {
  const due = Date.parse(due_at) - now;
  return `${figures === null ? 'not yet' : ago(figures.at, now)}, next ${due > 0 ? `in ${span(due)}` : 'within seconds'}`;
};

export const printDrift = (drift: DriftJson, now: number = Date.now()): void => {
  const { reference, window_ms, figures } = drift;
  const counts = (rows: number | undefined): string =>
    rows === undefined ? '' : `, ${counted(rows, 'row')}`;
  process.stdout.write(
    `reference: ${reference.from} to ${reference.until}${counts(figures?.reference_rows)}\n` +
      `window:    the last ${span(window_ms)}${counts(figures?.window_rows)}\n` +
      `computed:  ${computed(drift, now)}\n`,
  );
  if (figures?.reason) process.stdout.write(`no figures: ${figures.reason}\n`);
  if (figures === null || figures.columns.length === 0) return;
  process.stdout.write('\n');
  printTable(
    ['COLUMN', 'PSI', 'KS', ''],
    [...figures.columns]
      .sort(byPsi)
      .map(({ column, psi, ks }) => [
        column,
        figure(psi),
        figure(ks),
        psi !== null && psi > SHIFTED_PSI ? 'shifted' : '',
      ]),
  );
};

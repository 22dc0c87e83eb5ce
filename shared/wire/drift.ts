/** The settings of drift figures: what a request says into the domain's words, and back. */
import type { DriftRecord, DriftSettings } from '../domain/inference.ts';
import type { DriftJson } from './inference-api.ts';
import { type Bag, bagOf, refuse, refusedAs } from './option-bag.ts';

export const DRIFT_WINDOW_MS_MIN = 60_000;
/** As long as files are kept at most. */
export const DRIFT_WINDOW_MS_MAX = 400 * 86_400_000;

/** RFC 3339, with the offset: a time without one means another moment to each reader. */
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i;
const INSTANT_RULE = 'a time such as 2026-11-01T00:00:00Z';

const instantOf = (bag: Bag, name: string): number => {
  const at = Date.parse(bag.pattern(name, INSTANT, INSTANT_RULE));
  return Number.isNaN(at) ? refuse(`reference.${name}`, bag.raw(name), INSTANT_RULE) : at;
};

/** @throws SluiceError `invalid_drift` */
export const compileDrift = (value: unknown, now: number): DriftSettings =>
  refusedAs('invalid_drift', () => {
    const bag = bagOf(value, '', ['reference', 'window_ms']);
    const times = bag.bag('reference', ['from', 'until']);
    const [from, until] = [instantOf(times, 'from'), instantOf(times, 'until')];
    if (until > now)
      refuse('reference.until', times.raw('until'), `a time that has passed: now is ${instant(now)}`);
    if (from >= until)
      refuse('reference.from', times.raw('from'), `a time before reference.until (${instant(until)})`);
    const windowMs = bag.integer('window_ms', DRIFT_WINDOW_MS_MIN, DRIFT_WINDOW_MS_MAX);
    return { reference: { from, until }, windowMs };
  });

const instant = (at: number): string => new Date(at).toISOString();

/** @param dueAt when figures are computed next, at the latest */
export const presentDrift = ({ settings, figures }: DriftRecord, dueAt: number): DriftJson => ({
  reference: { from: instant(settings.reference.from), until: instant(settings.reference.until) },
  window_ms: settings.windowMs,
  figures:
    figures === null
      ? null
      : {
          at: instant(figures.at),
          reference_rows: figures.referenceRows,
          window_rows: figures.windowRows,
          columns: figures.columns,
          reason: figures.reason,
        },
  due_at: instant(dueAt),
});

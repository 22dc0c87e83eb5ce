/** The plot of the project's README: Sluice and mosec as a share of each scenario's reference. Plain SVG, no dependency. */
import type { ScenarioRecord } from './record.ts';

type Group = {
  readonly label: string;
  readonly reference: string;
  readonly sluice: number;
  readonly mosec: number;
};

const WIDTH = 760;
const LABEL_WIDTH = 250;
const SCALE_WIDTH = WIDTH - LABEL_WIDTH - 70;
const BAR_HEIGHT = 14;
const GROUP_HEIGHT = 48;
const TOP = 64;
const COLOURS = {
  sluice: '#0b7285',
  mosec: '#adb5bd',
  reference: '#c92a2a',
  text: '#212529',
  faint: '#6c757d',
};

const REFERENCES: Readonly<Record<string, { subject: string; words: string; label: string }>> = {
  'single-rows': { subject: 'echo', words: 'bare fastify echo', label: 'Single rows' },
  bulk: { subject: 'socket', words: 'bare Unix socket', label: 'Bulk' },
};

const compared = (record: ScenarioRecord): Group[] => {
  const reference = REFERENCES[record.scenario];
  if (!reference) return [];
  const settings = [...new Set(record.measurements.map((one) => one.setting))];
  return settings.map((setting) => {
    const rate = (subject: string): number =>
      record.measurements.find((one) => one.setting === setting && one.subject === subject)?.rowsPerSecond ??
      0;
    const base = rate(reference.subject);
    return {
      label: `${reference.label}, ${setting}`,
      reference: reference.words,
      sluice: rate('sluice') / base,
      mosec: rate('mosec') / base,
    };
  });
};

/** The reference of the simulated GPU is arithmetic: every batch full, no time lost. */
const ideal = (record: ScenarioRecord): Group[] => {
  const share = (subject: string): number =>
    (record.figures.find((figure) => figure.name === `share of the ideal, ${subject}`)?.value ?? 0) / 100;
  return record.scenario === 'simulated-gpu'
    ? [
        {
          label: 'GPU of 20 ms a batch, 512 callers',
          reference: 'ideal',
          sluice: share('sluice'),
          mosec: share('mosec'),
        },
      ]
    : [];
};

const text = (x: number, y: number, words: string, extra = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${extra}>${words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;

const bar = (y: number, share: number, scale: number, colour: string): string => {
  const width = share * scale;
  return (
    `<rect x="${LABEL_WIDTH}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" rx="2" fill="${colour}"/>` +
    text(
      LABEL_WIDTH + width + 6,
      y + BAR_HEIGHT - 3,
      `${share.toFixed(2)} ×`,
      'font-size="11" paint-order="stroke" stroke="#ffffff" stroke-width="4"',
    )
  );
};

const drawGroup = (group: Group, y: number, scale: number): string =>
  text(LABEL_WIDTH - 12, y + 13, group.label, 'text-anchor="end"') +
  text(
    LABEL_WIDTH - 12,
    y + 28,
    `1 = ${group.reference}`,
    `text-anchor="end" font-size="11" fill="${COLOURS.faint}"`,
  ) +
  bar(y, group.sluice, scale, COLOURS.sluice) +
  bar(y + BAR_HEIGHT + 3, group.mosec, scale, COLOURS.mosec);

const legend = (x: number, colour: string, words: string): string =>
  `<rect x="${x}" y="35" width="12" height="12" rx="2" fill="${colour}"/>${text(x + 18, 45, words)}`;

/** null when there is nothing to show yet. */
export const plot = (records: readonly ScenarioRecord[]): string | null => {
  const groups = records.flatMap((record) => [...compared(record), ...ideal(record)]);
  if (groups.length === 0) return null;
  const widest = Math.max(1.1, ...groups.flatMap((group) => [group.sluice, group.mosec]));
  const scale = SCALE_WIDTH / widest;
  const height = TOP + groups.length * GROUP_HEIGHT + 8;
  const one = LABEL_WIDTH + scale;
  const { machine } = records[0]!;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="13" fill="${COLOURS.text}" role="img" aria-label="Rows per second of Sluice and mosec relative to a reference">
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
${text(16, 24, 'Rows per second relative to a reference in the same run (longer is better)', 'font-size="15" font-weight="600"')}
${legend(16, COLOURS.sluice, 'Sluice (durable)')}${legend(160, COLOURS.mosec, 'mosec (in memory)')}
${text(WIDTH - 16, 45, `${machine.cores} cores, commit ${machine.commit.slice(0, 7)}`, `text-anchor="end" font-size="11" fill="${COLOURS.faint}"`)}
<line x1="${one.toFixed(1)}" x2="${one.toFixed(1)}" y1="${TOP - 8}" y2="${height - 8}" stroke="${COLOURS.reference}" stroke-dasharray="4 3"/>
${groups.map((group, index) => drawGroup(group, TOP + index * GROUP_HEIGHT, scale)).join('\n')}
</svg>
`;
};

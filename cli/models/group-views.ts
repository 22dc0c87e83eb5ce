/** Models and scaling groups as tables for people. */
import type { FieldJson, ModelVersionJson, ScalingGroupJson } from '../../sdk/index.ts';
import { typeText } from '../../shared/arrow/index.ts';
import { ago, lastLine, printTable, reasonLine, span } from '../print.ts';

/** `sqft: float64, rooms: float64 (nullable)` */
export const fieldList = (fields: readonly FieldJson[]): string =>
  fields
    .map(({ name, type, nullable }) => `${name}: ${typeText(type)}${nullable ? ' (nullable)' : ''}`)
    .join(', ');

export const byteText = (bytes: number): string => {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
};

const orDash = (text: string | null): string => (text === null || text === '' ? '-' : text);

export const printVersions = (versions: readonly ModelVersionJson[]): void =>
  printTable(
    ['VERSION', 'ALIASES', 'STAGE', 'USED BY', 'FILES', 'SIZE', 'REGISTERED'],
    versions.map((version) => [
      String(version.version),
      orDash(version.aliases.join(', ')),
      orDash(version.stage),
      orDash(version.used_by.join(', ')),
      String(version.files.length),
      byteText(version.files.reduce((sum, { bytes }) => sum + bytes, 0)),
      ago(version.created_at),
    ]),
  );

/** `2 of 1-4`: ready, and how many there may be. Those of a version that leaves are not counted. */
const replicaText = ({ replicas, scaling, version }: ScalingGroupJson): string => {
  const ready = replicas.details.filter((one) => one.state === 'ready' && one.version === version);
  return `${ready.length} of ${scaling.min_replicas}-${scaling.max_replicas}`;
};

const versionText = ({ version, update }: ScalingGroupJson): string =>
  update === null ? String(version) : `${version} → ${update.version}`;

export const printGroups = (groups: readonly ScalingGroupJson[]): void => {
  printTable(
    ['GROUP', 'MODEL', 'VERSION', 'STATE', 'REPLICAS', 'BACKEND', 'UPDATED'],
    groups.map((group) => [
      group.name,
      group.model,
      versionText(group),
      group.paused ? 'paused' : group.state,
      replicaText(group),
      group.backend,
      ago(group.updated_at),
    ]),
  );
  for (const { name, reason } of groups)
    if (reason !== null)
      process.stderr.write(`${name}: ${reasonLine(reason)} (\`sluice groups show ${name}\`)\n`);
};

const line = (label: string, text: string): void => {
  process.stdout.write(`${`${label}:`.padEnd(12)}${text}\n`);
};

/** A replica that is a process has its id for a place. */
const placeText = (place: string | null): string =>
  place !== null && /^\d+$/.test(place) ? `pid ${place}` : orDash(place);

/** @param ignored what it runs without */
export const printGroup = (group: ScalingGroupJson, ignored: readonly string[] = []): void => {
  line('group', `${group.name}, called as ${group.function}`);
  line('model', `${group.model} ${versionText(group)}`);
  line(
    'state',
    `${group.paused ? 'paused, ' : ''}${group.state}${group.reason === null ? '' : `: ${group.reason}`}`,
  );
  line('replicas', `${replicaText(group)} (${group.backend})`);
  const { engine } = group;
  if (engine !== null) line('engine', `${engine.project}/${engine.name} ${engine.version}`);
  const store = group.inference_store;
  if (store !== null)
    line(
      'sampled',
      `${Number((store.sample_rate * 100).toPrecision(3))} % of rows, kept ${span(store.retention_ms)}`,
    );
  if (ignored.length > 0) line('without', ignored.join('; '));
  line('inputs', fieldList(group.inputs) || 'any columns');
  line('outputs', fieldList(group.outputs) || 'JSON');
  const { details } = group.replicas;
  if (details.length > 0) {
    process.stdout.write('\n');
    printTable(
      ['REPLICA', 'VERSION', 'STATE', 'SINCE', 'PLACE', 'DEVICES', 'CPU', 'MEMORY', 'RESTARTS', 'REASON'],
      details.map((replica) => [
        String(replica.index),
        String(replica.version ?? '-'),
        replica.state,
        span(Date.now() - Date.parse(replica.since)),
        placeText(replica.place),
        orDash(replica.devices.join(',')),
        replica.cpu_percent === null ? '-' : `${Math.round(replica.cpu_percent)} %`,
        replica.memory_bytes === null ? '-' : byteText(replica.memory_bytes),
        String(replica.restarts),
        orDash(replica.reason === null ? null : lastLine(replica.reason)),
      ]),
    );
  }
  if (group.events.length > 0) process.stdout.write('\n');
  for (const { at, kind, text } of group.events.slice(-10)) process.stdout.write(`${at} ${kind}: ${text}\n`);
};

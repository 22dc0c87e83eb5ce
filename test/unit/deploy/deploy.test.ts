/** deploy/ without a daemon: its files parse, name what exists, and agree with each other and with the settings. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { rolesOf } from '../../../shared/config/roles.ts';
import {
  compileSettings,
  flagOf,
  SETTINGS,
  type SettingName,
  variableOf,
} from '../../../shared/config/settings.ts';
import { isErrorCode } from '../../../shared/errors/catalogue.ts';
import { registry } from '../../../shared/runtime/metrics.ts';

const root = path.resolve(import.meta.dirname, '../../..');
const deploy = path.join(root, 'deploy');
const text = (file: string): string => readFileSync(path.join(deploy, file), 'utf8');
const yaml = <T>(file: string): T => parse(text(file), { merge: true }) as T;

type Service = {
  image: string;
  command?: string[];
  entrypoint?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  volumes?: string[];
  depends_on?: Record<string, { condition: string }> | string[];
  read_only?: boolean;
  tmpfs?: string[];
  cap_drop?: string[];
  restart?: string;
  stop_grace_period?: string;
};
type Compose = { services: Record<string, Service>; volumes: Record<string, null> };

const compose = yaml<Compose>('compose.yaml');
const services = Object.entries(compose.services);
const ours = services.filter(([, { image }]) => image === 'sluice');
const names = Object.keys(SETTINGS) as SettingName[];

/** Where a service has its named volumes. */
const volumesOf = ({ volumes = [] }: Service): Map<string, string> =>
  new Map(volumes.map((volume) => volume.split(':') as [string, string]));

/** The settings that a service's flags and variables give, as the server compiles them. */
const settingsOf = ({ command = [], environment = {} }: Service) => {
  const raw: Partial<Record<SettingName, string>> = {};
  for (const [variable, value] of Object.entries(environment)) {
    // OpenTelemetry's have no value here: they are what the shell has.
    if (variable === 'HOME' || (variable.startsWith('OTEL_') && value === null)) continue;
    const name = names.find((one) => variableOf(one) === variable);
    expect(name, variable).toBeDefined();
    raw[name!] = value;
  }
  const flags = command[0] === 'serve' ? command.slice(1) : [];
  for (let at = 0; at < flags.length; at += 2) {
    const name = names.find((one) => flagOf(one) === flags[at]);
    expect(name, flags[at]).toBeDefined();
    raw[name!] = flags[at + 1]!;
  }
  return compileSettings(raw);
};

const dockerfile = text('Dockerfile').replaceAll('\\\n', ' ').split('\n');
const instructions = (keyword: string): string[] =>
  dockerfile.filter((line) => line.startsWith(`${keyword} `)).map((line) => line.slice(keyword.length + 1));
const imageEnvironment = Object.fromEntries(
  instructions('ENV').flatMap((line) =>
    line
      .trim()
      .split(/\s+/)
      .map((pair) => pair.split('=') as [string, string]),
  ),
);

describe('the Dockerfile', () => {
  it('builds on a public base that its user may replace, in several stages', () => {
    expect(instructions('ARG')).toEqual(['BASE=docker.io/library/node:24-bookworm-slim']);
    expect(instructions('FROM').length).toBeGreaterThan(2);
    const stages = instructions('FROM').map((line) => /^(\S+)(?: AS (\S+))?$/.exec(line)!);
    const known = new Set([`$\{BASE}`, ...stages.map(([, , name]) => name)]);
    for (const [, from] of stages) expect(known).toContain(from);
  });

  it('copies what is there and what the context holds', () => {
    const allowed = readFileSync(path.join(root, '.dockerignore'), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const sources = instructions('COPY')
      .filter((line) => !line.includes('--from='))
      .flatMap((line) =>
        line
          .split(/\s+/)
          .filter((word) => !word.startsWith('--'))
          .slice(0, -1),
      );
    expect(sources).toContain('services');
    for (const source of sources) {
      expect(existsSync(path.join(root, source)), source).toBe(true);
      expect(
        allowed.some((one) => source.startsWith(one) || one.startsWith(`${source}/`)),
        source,
      ).toBe(true);
    }
  });

  it('runs as nobody in particular, with settings that exist', () => {
    expect(instructions('USER').at(-1)).toMatch(/^[1-9]\d+:[1-9]\d+$/);
    const known = new Set(['SLUICE_PYTHON', ...names.map(variableOf)]);
    for (const name of Object.keys(imageEnvironment).filter((one) => one.startsWith('SLUICE_')))
      expect(known).toContain(name);
    expect(instructions('EXPOSE')).toEqual([
      `${SETTINGS.port.fallback} ${imageEnvironment.SLUICE_HEALTH_PORT}`,
    ]);
  });
});

describe('the compose file', () => {
  it('has Redis that loses nothing it has acknowledged', () => {
    const command = compose.services.redis!.command!;
    const given = (option: string): string => command[command.indexOf(option) + 1]!;
    expect(given('--appendonly')).toBe('yes');
    expect(given('--appendfsync')).toBe('always');
    expect(given('--maxmemory-policy')).toBe('noeviction');
  });

  it('has two doors, two buffers and workers, with flags and variables that exist', () => {
    const roles = ours
      .filter(([, service]) => service.command?.[0] === 'serve')
      .map(([name, service]) => {
        const settings = settingsOf(service);
        expect(settings.store, name).toBe('redis://redis:6379');
        expect(settings.healthPort, name).toBe(Number(imageEnvironment.SLUICE_HEALTH_PORT));
        expect(Number.parseInt(service.stop_grace_period!, 10) * 1000, name).toBeGreaterThan(settings.grace);
        expect(rolesOf(settings.role)!.size, name).toBe(1);
        return settings.role;
      });
    expect(roles.sort()).toEqual(['buffer', 'buffer', 'ingress', 'ingress', 'worker']);
  });

  it('locks every process of ours in', () => {
    expect(ours.length).toBe(6);
    for (const [name, service] of ours) {
      expect(service.read_only, name).toBe(true);
      expect(service.cap_drop, name).toEqual(['ALL']);
    }
  });

  it('has one directory for the model files of all, and room on the disk for their caches', () => {
    for (const [name, service] of ours) {
      const home = volumesOf(service).get('data')!;
      // A new volume gets the owner that the directory has in the image.
      expect(instructions('RUN').join(), name).toContain(`mkdir ${home} && chown 10001:10001 ${home}`);
      expect(service.environment!.SLUICE_ARTIFACTS, name).toMatch(new RegExp(`^${home}/`));
      expect(service.environment!.HOME, name).toBe(home);
    }
  });

  it('lets handlers load what they compile in their temporary directory', () => {
    for (const [name, service] of ours) expect(service.tmpfs, name).toEqual(['/tmp:exec']);
  });

  it('keeps what Prometheus has gathered in its volume', () => {
    const { prometheus } = compose.services;
    const path = volumesOf(prometheus!).get('prometheus');
    expect(prometheus!.command).toContain(`--storage.tsdb.path=${path}`);
  });

  it('publishes ports on which something listens, on loopback', () => {
    const listening: Record<string, number> = { prometheus: 9090, grafana: 3000 };
    const published = services.flatMap(([name, { ports = [] }]) =>
      ports.map((port) => [name, port] as const),
    );
    expect(published.length).toBe(4);
    for (const [name, port] of published) {
      const inside = listening[name] ?? settingsOf(compose.services[name]!).port;
      expect(port).toMatch(new RegExp(`^127\\.0\\.0\\.1:\\d+:${inside}$`));
    }
    expect(new Set(published.map(([, port]) => port.split(':')[1])).size).toBe(published.length);
  });

  it('names services, volumes and files that are there', () => {
    for (const [name, service] of services) {
      const needed = Array.isArray(service.depends_on)
        ? service.depends_on
        : Object.keys(service.depends_on ?? {});
      for (const one of needed) expect(compose.services, name).toHaveProperty(one);
      for (const volume of service.volumes ?? []) {
        const [source] = volume.split(':') as [string];
        if (source.startsWith('.')) expect(existsSync(path.join(deploy, source)), volume).toBe(true);
        else expect(compose.volumes, name).toHaveProperty(source);
      }
    }
    const [script] = compose.services['first-key']!.entrypoint!;
    expect(instructions('COPY').some((line) => line.endsWith(` ${script}`))).toBe(true);
  });
});

type Rules = {
  groups: {
    rules: { alert: string; expr: string; annotations: { summary: string; description: string } }[];
  }[];
};
type Dashboard = {
  uid: string;
  panels: { title: string; targets: { expr: string; datasource: { uid: string } }[] }[];
};
const dashboards = readdirSync(path.join(deploy, 'grafana/dashboards')).map((file) => ({
  file,
  board: JSON.parse(text(`grafana/dashboards/${file}`)) as Dashboard,
}));

/** Every series that a scrape can show, with the labels that it may carry. */
const series = async (): Promise<Map<string, ReadonlySet<string>>> => {
  const found = new Map<string, ReadonlySet<string>>([['up', new Set(['job', 'instance'])]]);
  for (const { name, type } of await registry.getMetricsAsJSON()) {
    const { labelNames } = registry.getSingleMetric(name) as unknown as { labelNames: string[] };
    const labels = new Set(labelNames);
    found.set(name, labels);
    if ((type as unknown) !== 'histogram') continue;
    for (const end of ['sum', 'count']) found.set(`${name}_${end}`, labels);
    found.set(`${name}_bucket`, new Set([...labels, 'le']));
  }
  return found;
};

/** PromQL's own words, and the labels that the scrape adds. */
const KEYWORDS = new Set(
  'sum max min by on unless rate increase histogram_quantile role instance job s m h'.split(' '),
);

const checkQuery = (query: string, known: ReadonlyMap<string, ReadonlySet<string>>): void => {
  const words = query.replaceAll(/"[^"]*"/g, '').match(/[a-z_][a-z_0-9]*/gi) ?? [];
  const used = words.filter((word) => known.has(word));
  expect(used.length, query).toBeGreaterThan(0);
  const labels = new Set(used.flatMap((name) => [...known.get(name)!]));
  for (const word of words) {
    const isKnown = known.has(word) || labels.has(word) || KEYWORDS.has(word) || /^[smh]$/.test(word);
    expect(isKnown, `${word} in ${query}`).toBe(true);
  }
  for (const [, codes] of query.matchAll(/code=~?"([^"]*)"/g))
    for (const code of codes!.split('|')) expect(isErrorCode(code), code).toBe(true);
};

describe('Prometheus and Grafana', () => {
  it('scrape every process of ours on its health port', () => {
    type Scrape = { dns_sd_configs: { names: string[]; port: number }[] };
    const config = yaml<{ rule_files: string[]; scrape_configs: Scrape[] }>('prometheus/prometheus.yaml');
    const [discovery] = config.scrape_configs[0]!.dns_sd_configs;
    expect(discovery!.port).toBe(Number(imageEnvironment.SLUICE_HEALTH_PORT));
    const serving = ours.filter(([, { command }]) => command?.[0] === 'serve').map(([name]) => name);
    expect(discovery!.names.toSorted()).toEqual(serving.toSorted());
    for (const file of config.rule_files)
      expect(existsSync(path.join(deploy, 'prometheus', path.basename(file))), file).toBe(true);
  });

  it('alert on metrics and labels that exist, and say what to do', async () => {
    const known = await series();
    const rules = yaml<Rules>('prometheus/rules.yaml').groups.flatMap((group) => group.rules);
    expect(rules.length).toBeGreaterThan(4);
    for (const { expr, annotations } of rules) {
      checkQuery(expr, known);
      expect(annotations.description.length).toBeGreaterThan(20);
      expect(annotations.summary.length).toBeGreaterThan(10);
    }
  });

  it('show metrics and labels that exist, from the data source that is provisioned', async () => {
    const known = await series();
    type Sources = { datasources: { uid: string; url: string }[] };
    const [source] = yaml<Sources>('grafana/provisioning/datasources/prometheus.yaml').datasources;
    expect(source!.url).toBe('http://prometheus:9090');
    expect(dashboards.length).toBe(1);
    for (const { board } of dashboards) {
      expect(board.panels.length).toBeGreaterThan(10);
      for (const { targets } of board.panels) {
        for (const { expr, datasource } of targets) {
          checkQuery(expr, known);
          expect(datasource.uid).toBe(source!.uid);
        }
      }
    }
    type Providers = { providers: { options: { path: string } }[] };
    const [provider] = yaml<Providers>('grafana/provisioning/dashboards/sluice.yaml').providers;
    const mounted = compose.services.grafana!.volumes!.map((volume) => volume.split(':')[1]);
    expect(mounted).toContain(provider!.options.path);
  });

  it('shows every metric that there is somewhere', async () => {
    const queries = dashboards.flatMap(({ board }) =>
      board.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    );
    const shown = queries.join('\n');
    for (const { name } of await registry.getMetricsAsJSON()) expect(shown).toContain(name);
  });
});

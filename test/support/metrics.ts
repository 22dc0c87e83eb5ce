/** The metrics of servers as Prometheus reads them; what several processes count is added up. */
import type { SluiceServer } from './sluice-process.ts';

export type Metrics = {
  /** Of one series, by its labels in any order; 0 where nobody tells it. */
  readonly value: (name: string, labels: Readonly<Record<string, string>>) => number;
};

const seriesOf = (name: string, labels: readonly string[]): string => `${name}{${[...labels].sort().join()}}`;

/** From processes that were started with a health port. */
export const metricsOf = async (servers: readonly Pick<SluiceServer, 'healthUrl'>[]): Promise<Metrics> => {
  const values = new Map<string, number>();
  for (const { healthUrl } of servers) {
    const text = await (await fetch(`${healthUrl}/metrics`)).text();
    for (const [, name, labels, value] of text.matchAll(/^(\w+)\{(.*)\} (\S+)$/gm)) {
      const series = seriesOf(name!, labels!.match(/\w+="[^"]*"/g) ?? []);
      values.set(series, (values.get(series) ?? 0) + Number(value));
    }
  }
  return {
    value: (name, labels) =>
      values.get(
        seriesOf(
          name,
          Object.entries(labels).map(([label, text]) => `${label}="${text}"`),
        ),
      ) ?? 0,
  };
};

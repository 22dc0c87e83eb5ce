/** Which part of a system keeps how many cores busy: what says where a limit is. */
import { cpuSecondsOf } from './process-tree.ts';

/** Roots of process trees by the part's name. */
export type Parts = Readonly<Record<string, readonly number[]>>;

const secondsOf = (parts: Parts): Map<string, number> =>
  new Map(
    Object.entries(parts).map(([name, roots]) => [
      name,
      roots.reduce((sum, root) => sum + cpuSecondsOf(root), 0),
    ]),
  );

export type Shares = {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** "Redis 0.71, ingress 0.93 of the machine's 4 cores", parts without a process left out. */
  readonly words: (cores: number) => string;
};

/** From here to the call of what it answers. */
export const watchShares = (parts: Parts): (() => Shares) => {
  const [before, startedAt] = [secondsOf(parts), performance.now()];
  return () => {
    const after = secondsOf(parts);
    const seconds = (performance.now() - startedAt) / 1000;
    const spent = [...after].map(([name, value]): [string, number] => [name, value - before.get(name)!]);
    const named = spent.filter(([name]) => parts[name]!.length > 0);
    return {
      seconds,
      cpuSeconds: spent.reduce((sum, [, value]) => sum + value, 0),
      words: (cores) =>
        `${named.map(([name, value]) => `${name} ${(value / seconds).toFixed(2)}`).join(', ')} of ${cores} cores`,
    };
  };
};

import { createRequire } from 'node:module';
import { destination, type Logger, pino } from 'pino';
import type { PinoPretty } from 'pino-pretty';

export type Log = Logger;

/** `lines` are for people who look at a terminal, `json` for everything else. */
export type LogFormat = 'json' | 'lines';

/** Loaded where it is needed: a server that logs JSON has nothing of it. */
const readable = () => {
  const pretty = createRequire(import.meta.url)('pino-pretty') as typeof PinoPretty;
  return pretty({
    ...{ destination: 2, sync: true, singleLine: true },
    translateTime: 'SYS:HH:MM:ss.l',
    // Which of our threads it was says nothing to somebody who runs a function.
    ignore: 'pid,hostname,part,thread',
  });
};

/** On standard error (standard output belongs to commands' results). Synchronous, so that a crash loses no line. */
export const makeLog = (
  level: string,
  bindings: Record<string, unknown> = {},
  format: LogFormat = 'json',
): Log =>
  pino(
    { level, base: bindings, timestamp: pino.stdTimeFunctions.isoTime },
    format === 'lines' ? readable() : destination({ dest: 2, sync: true }),
  );

export const silentLog = (): Log => pino({ level: 'silent' });

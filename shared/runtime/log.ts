import { destination, type Logger, pino } from 'pino';

export type Log = Logger;

/** JSON lines on standard error (standard output belongs to commands' results). Synchronous, so that a crash loses no line. */
export const makeLog = (level: string, bindings: Record<string, unknown> = {}): Log =>
  pino(
    { level, base: bindings, timestamp: pino.stdTimeFunctions.isoTime },
    destination({ dest: 2, sync: true }),
  );

export const silentLog = (): Log => pino({ level: 'silent' });

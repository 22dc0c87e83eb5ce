/** The mark of a migration in Redis, and whether anybody serves the store. */
import { SluiceError } from '../../errors/sluice-error.ts';
import type { TransferMark } from '../transfer-mark.ts';
import type { Layout } from './layout.ts';
import type { Link } from './link.ts';

export const readMark = async (link: Link, layout: Layout): Promise<TransferMark | null> => {
  const text = await link.command<Buffer | null>('GET', layout.store('transfer'));
  return text === null ? null : (JSON.parse(String(text)) as TransferMark);
};

export const writeMark = async (link: Link, layout: Layout, mark: TransferMark | null): Promise<void> => {
  if (mark === null) await link.command('DEL', layout.store('transfer'));
  else await link.command('SET', layout.store('transfer'), JSON.stringify(mark));
};

/** @throws SluiceError while a buffer process is a member, or any process listens to what changes here, as each does */
export const refuseServed = async (link: Link, layout: Layout, place: string, now: number): Promise<void> => {
  const alive = await link.command<Buffer[]>('ZRANGEBYSCORE', layout.store('members'), now, '+inf');
  const listening = await link.listeners(layout.store('functions-changed'));
  if (alive.length + listening === 0) return;
  const who = alive.length > 0 ? `${alive.length} buffer processes` : `servers on ${listening} connections`;
  throw new SluiceError('internal', `${place} is being served by ${who}.`, {
    fix: 'Stop all of its servers; one that was killed counts for some seconds more, one whose machine went away until Redis closes its connection.',
  });
};

/** A client for a thread that got a ticket of its process's store. */
import { BugError } from '../errors/sluice-error.ts';
import type { ClientTicket } from './embedded/client.ts';
import type { Store } from './ports/store.ts';
import type { RedisTicket } from './redis/client.ts';

/** Each store is loaded only where it is used: the other's libraries would cost every thread their start. */
export const attachStore = async (ticketData: unknown): Promise<Store> => {
  const ticket = ticketData as ClientTicket | RedisTicket;
  if (ticket.kind === 'embedded') return (await import('./embedded/client.ts')).makeClient(ticket);
  if (ticket.kind === 'redis') return (await import('./redis/client.ts')).makeRedisClient(ticket);
  throw new BugError(
    `no store has tickets of the kind ${JSON.stringify((ticket as { kind: unknown }).kind)}`,
  );
};

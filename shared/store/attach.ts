/** A client for a thread that got a ticket of its process's store. */
import { BugError } from '../errors/sluice-error.ts';
import { type ClientTicket, makeClient } from './embedded/client.ts';
import type { Store } from './ports/store.ts';

export const attachStore = (ticketData: unknown): Store => {
  const ticket = ticketData as ClientTicket;
  if (ticket.kind === 'embedded') return makeClient(ticket);
  throw new BugError(`no store has tickets of the kind ${JSON.stringify(ticket.kind)}`);
};

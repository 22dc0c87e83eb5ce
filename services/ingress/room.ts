/** What the routes of one ingress thread work with. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Settings } from '../../shared/config/settings.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { metrics } from '../../shared/runtime/metrics.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Scope } from '../../shared/store/ports/keys.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import type { CallIds } from '../../shared/wire/call-id.ts';
import type { HeaderSchemas } from '../../shared/wire/header-schemas.ts';
import type { Catalogue } from '../registry/catalogue.ts';
import type { Engines } from '../registry/engines.ts';
import type { Functions } from '../registry/functions.ts';
import type { Models } from '../registry/models.ts';
import type { CallResults } from '../results/call-results.ts';
import type { CallWaits } from '../results/call-waits.ts';
import type { Groups } from '../scaling/groups.ts';
import type { Bodies } from './body.ts';
import type { HeldBody } from './body-budget.ts';
import type { Guard, Identity } from './guard.ts';

export type Room = {
  readonly settings: Settings;
  readonly store: Store;
  readonly log: Log;
  readonly ids: CallIds;
  readonly catalogue: Catalogue;
  readonly functions: Functions;
  readonly models: Models;
  readonly engines: Engines;
  readonly groups: Groups;
  readonly results: CallResults;
  readonly waits: CallWaits;
  readonly guard: Guard;
  readonly artifacts: Artifacts;
  readonly bodies: Bodies;
  readonly version: string;
  /** The Prometheus text of the whole process. */
  readonly exposition: () => Promise<string>;
  /** Keys were made or revoked: every thread must read them again. */
  readonly keysChanged: () => Promise<void>;
  /** Leaving: no new work should come, what comes is done; draining: connections close. */
  readonly state: { isLeaving: boolean; isDraining: boolean };
};

export type Routes = (app: FastifyInstance, room: Room) => void;

declare module 'fastify' {
  interface FastifyRequest {
    identity: Identity | null;
    /** null: the body does not count. */
    held: HeldBody | null;
  }
  interface FastifyContextConfig {
    /** The scope that the route needs; without one it needs no key. */
    scope?: Scope;
    /** The handler takes the body's bytes. */
    rawBody?: boolean;
    /** The body is not held in memory, and counts in no budget. */
    streamedBody?: boolean;
    /** Headers that the route looks at, for the description of the interface. */
    takes?: HeaderSchemas;
    /** The route's label in metrics. */
    label?: string;
  }
}

/** The identity that the guard left; a route without a scope has none, and that would be a bug here. */
export const identityOf = (request: FastifyRequest): Identity => request.identity!;

export const mayRead =
  (identity: Identity) =>
  (apiKeyId: number): boolean =>
    identity.isAdmin || identity.id === apiKeyId;

type Counter = { inc(): void };
const counters = new Map<string, Counter>();

/** Counts an answer. Labelled counters are looked up by name once, since hashing labels costs more than counting. */
export const countAnswer = (route: string, status: number): void => {
  const key = `${status}${route}`;
  let counter = counters.get(key);
  if (counter === undefined) {
    counter = metrics.requests.labels(route, String(status));
    counters.set(key, counter);
  }
  counter.inc();
};

export const sendJson = (reply: FastifyReply, status: number, value: unknown): FastifyReply =>
  reply.code(status).header('content-type', 'application/json; charset=utf-8').send(JSON.stringify(value));

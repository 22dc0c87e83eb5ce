/** What a client may ask, by name. */
import { admit } from './admission.ts';
import { getDocument, listDocuments, putDocument, removeDocument } from './documents.ts';
import { expired } from './expiry.ts';
import * as functions from './functions.ts';
import { createKey, findKey, listKeys, revokeKey } from './keys.ts';
import { extend, lease, release } from './leasing.ts';
import type { Ledger } from './ledger.ts';
import { cancel, repin } from './moving.ts';
import type { ClientPort } from './outbox.ts';
import { retire } from './retiring.ts';
import { seal } from './sealing.ts';
import { settle } from './settling.ts';
import { offer } from './slots.ts';
import { acknowledge, sweep } from './sweeping.ts';
import { resolveFormer } from './transfer-lineage.ts';
import { call, list, open, result } from './views.ts';
import { watchCall } from './watching.ts';

type WatchArgs = { readonly kind: string; readonly callId?: number };

const watch = (ledger: Ledger, { kind, callId }: WatchArgs, client: ClientPort): void => {
  if (callId !== undefined) watchCall(ledger, callId, client);
  else client.kinds.add(kind);
};

const unwatch = (ledger: Ledger, { kind, callId }: WatchArgs, client: ClientPort): void => {
  if (callId !== undefined) ledger.outbox.unwatch(callId, client);
  else client.kinds.delete(kind);
};

const VERBS = {
  admit,
  open,
  offer,
  seal,
  lease,
  extend,
  release,
  settle,
  expired,
  call,
  list,
  watch,
  unwatch,
  result,
  cancel,
  deploy: functions.deploy,
  settleStaged: functions.settleStaged,
  functions: functions.functions,
  function: functions.functionOf,
  source: functions.sourceOf,
  update: functions.update,
  remove: functions.remove,
  repin,
  retire,
  report: functions.report,
  reports: functions.reports,
  load: functions.load,
  loadOf: functions.loadOf,
  appendLogs: functions.appendLogs,
  logs: functions.logs,
  putDocument,
  removeDocument,
  getDocument,
  listDocuments,
  createKey,
  listKeys,
  revokeKey,
  findKey,
  acknowledge,
  sweep,
  resolveFormer,
  usage: (ledger: Ledger) => ledger.disk.measure(),
  counters: (ledger: Ledger) => ({ ...ledger.counters }),
};

export type VerbName = keyof typeof VERBS;

export const runVerb = (ledger: Ledger, verb: VerbName, args: unknown, client: ClientPort): unknown =>
  (VERBS[verb] as (ledger: Ledger, args: unknown, client: ClientPort) => unknown)(ledger, args, client);

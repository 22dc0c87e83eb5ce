/** Verbs over many calls, in steps: each step is one commit's share, so that others are not kept waiting. */

import type { FunctionSpec } from '../../domain/function.ts';
import { checkSchemas, noFunction, noVersion, targetStaged } from '../function-refusals.ts';
import type { CancelAnswer, CancelQuery } from '../ports/queue.ts';
import { cancelCall } from './expiry.ts';
import type { Ledger } from './ledger.ts';
import type { FunctionState, VersionState } from './model.ts';
import { use } from './retiring.ts';

/** Calls changed in one step: some milliseconds. */
const STEP_CALLS = 1000;

/** A verb that is not done: its request runs again with these arguments in a later commit. */
export class Again {
  readonly args: unknown;
  constructor(args: unknown) {
    this.args = args;
  }
}

type Progress = {
  readonly after: number;
  readonly upTo: number;
  readonly calls: number;
  readonly rows: number;
};

export const cancel = (
  ledger: Ledger,
  query: CancelQuery & { readonly progress?: Progress },
): CancelAnswer | Again => {
  if ('callId' in query) return cancelCall(ledger, query.now, query.callId);
  // Calls that are admitted after the purge began are not its business.
  const progress = query.progress ?? { after: 0, upTo: ledger.nextCall - 1, calls: 0, rows: 0 };
  const owner = ledger.functions.get(query.functionName);
  if (owner === undefined || owner.isRemoved) throw noFunction(query.functionName);
  let { calls, rows } = progress;
  const ids = callsOf(ledger, versionsOf(ledger, owner), progress);
  for (const id of ids) {
    const answer = cancelCall(ledger, query.now, id);
    calls += answer.calls;
    rows += answer.rows;
  }
  if (ids.length < STEP_CALLS) return { calls, rows };
  return new Again({ ...query, progress: { ...progress, after: 0, calls, rows } });
};

const versionsOf = (ledger: Ledger, owner: FunctionState): VersionState[] =>
  [...ledger.versions.values()].filter((version) => version.owner === owner);

const callsOf = (ledger: Ledger, versions: readonly VersionState[], { after, upTo }: Progress): number[] => {
  const ids: number[] = [];
  const select = ledger.prepare(
    'SELECT id FROM live WHERE version = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?',
  );
  for (const version of versions) {
    const rows = select.all(version.id, after, upTo, STEP_CALLS - ids.length) as { id: number }[];
    for (const { id } of rows) ids.push(id);
  }
  return ids;
};

export type RepinQuery = {
  readonly now: number;
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly progress?: Progress;
};

/** Waiting rows go to another version; what is sealed stays where it is. */
export const repin = (ledger: Ledger, query: RepinQuery): number | Again => {
  const owner = ledger.functions.get(query.name);
  if (owner === undefined || owner.isRemoved) throw noFunction(query.name);
  const [from, to] = [versionOf(ledger, owner, query.from), versionOf(ledger, owner, query.to)];
  checkSchemas(owner.name, described(ledger, from), described(ledger, to));
  if (from === to) return 0;
  // Later steps go on with what the first one began.
  if (query.progress === undefined && owner.staged?.id === to.id) throw targetStaged(owner.name, to.digest);
  use(ledger, to);
  const progress = query.progress ?? { after: 0, upTo: ledger.nextCall - 1, calls: 0, rows: 0 };
  const ids = callsOf(ledger, [from], progress);
  const move = ledger.prepare('UPDATE live SET version = ? WHERE id = ?');
  let moved = progress.calls;
  for (const id of ids) {
    const call = ledger.call(id)!;
    if (call.sealed === call.rows) continue;
    move.run(to.id, id);
    call.version = to;
    to.oldestHint = Math.min(to.oldestHint, id);
    ledger.outbox.addWaiting(call);
    moved += 1;
  }
  if (ids.length < STEP_CALLS) return moved;
  return new Again({ ...query, progress: { ...progress, after: ids.at(-1)!, calls: moved } });
};

const versionOf = (ledger: Ledger, owner: FunctionState, digest: string): VersionState => {
  const found = versionsOf(ledger, owner).find((version) => version.digest === digest);
  if (found !== undefined) return found;
  throw noVersion(owner.name, digest);
};

const described = (ledger: Ledger, { id, digest }: VersionState) => {
  const row = ledger.prepare('SELECT spec FROM versions WHERE id = ?').get(id) as { spec: string };
  return { digest, spec: JSON.parse(row.spec) as FunctionSpec };
};

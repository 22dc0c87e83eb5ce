/** What the store's thread holds of batches that wait for their next run, perhaps for hours. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { Payload } from '../../../shared/domain/call.ts';
import { admit } from '../../../shared/store/embedded/admission.ts';
import { openDatabase } from '../../../shared/store/embedded/database.ts';
import { deploy } from '../../../shared/store/embedded/functions.ts';
import { lease } from '../../../shared/store/embedded/leasing.ts';
import { Ledger } from '../../../shared/store/embedded/ledger.ts';
import type { ClientPort } from '../../../shared/store/embedded/outbox.ts';
import { packAdmissions, packSlices } from '../../../shared/store/embedded/packers.ts';
import { seal } from '../../../shared/store/embedded/sealing.ts';
import { Segments } from '../../../shared/store/embedded/segments.ts';
import { settle } from '../../../shared/store/embedded/settling.ts';
import { LIMITS } from '../../contract/factory.ts';
import { PLAIN_SPEC } from '../../support/function-spec.ts';

const makeLedger = (): Ledger => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-ledger-'));
  const db = openDatabase(directory, 'memory');
  const ledger = new Ledger(db, new Segments(directory, false), {
    ...LIMITS,
    directory,
    durability: 'memory',
  });
  onTestFinished(() => {
    ledger.segments.close();
    db.close();
    rmSync(directory, { recursive: true });
  });
  return ledger;
};

it.each([
  { kind: 'json', text: '[[1,2]]' },
  { kind: 'arrow', bytes: new Uint8Array([1, 2, 3]) },
] as const satisfies readonly Payload[])('keeps no inline $kind payload of a delayed batch', (payload) => {
  const ledger = makeLedger();
  const { current } = deploy(ledger, { now: 0, spec: PLAIN_SPEC }).record;
  const admission = { now: 0, functionName: 'f', versionId: current.id, apiKeyId: 0, lane: '', priority: 0 };
  const rest = { deadlineAt: null, rows: 2, bytes: 16, schemaKey: '', idempotency: null, metadata: {} };
  const packed = packAdmissions([{ ...admission, ...rest, payload, traceparent: null }]);
  const { numbers } = admit(ledger, packed, {} as ClientPort);
  const callId = numbers[0]!;
  const slices = packSlices([{ callId, from: 0, count: 2 }]);
  seal(ledger, { now: 0, versionId: current.id, slices, reason: 0 });
  const request = { workerId: 'w', versionId: current.id, leaseMs: 1000, max: 1 };
  const [batch] = lease(ledger, { now: 0, ...request });
  const stored = batch!.payloads[0];
  expect(ledger.live.get(callId)?.payload).toEqual(stored);
  settle(ledger, {
    ...{ now: 0, batchId: batch!.batchId, token: batch!.token, outcomes: [], errors: [], output: null },
    continuations: [{ slices, attempts: 1, claims: 0, mode: 1, notBefore: 3_600_000 }],
    ...{ startedAt: 0, handlerMs: 1 },
  });
  expect(ledger.live.get(callId)?.payload).toBeUndefined();
  expect(lease(ledger, { now: 3_600_000, ...request })[0]?.payloads[0]).toEqual(stored);
});

/** When an engine gets batches: its readiness probe, as Kubernetes means it. */
import { rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Readiness } from '../../../../workers/http/readiness.ts';
import { Gate, watchedRig } from '../rig.ts';
import { type EngineChanges, engineSpec, type SpecChanges, wayward } from './engine-spec.ts';

/** An engine in the state that is told, which the test may change. */
const opened = async (told: string, changes: EngineChanges = {}, specChanges: SpecChanges = {}) => {
  const { rig, leased } = await watchedRig();
  const state = path.join(rig.directory, 'state');
  // Moved into place: the engine never sees half a word.
  const become = async (next: string): Promise<void> => {
    await writeFile(`${state}.next`, next);
    await rename(`${state}.next`, state);
  };
  await become(told);
  const record = await rig.deploy(engineSpec(wayward(state, changes), specChanges));
  return { rig, record, become, leased };
};

describe('a readiness probe', () => {
  it('waits for an engine that starts late, says why meanwhile, and sends it nothing', async () => {
    const { rig, record, become } = await opened('down');
    const call = await rig.submit(record, ['a']);
    const why = /^not ready: GET \/ready on port \d+: answered 503 "loading the weights"$/;
    const report = await rig.report(record, ({ reason }) => why.test(reason ?? ''));
    expect(report).toMatchObject({ ready: 0, starting: 1 });
    await become('up');
    expect((await rig.finished(call)).values).toEqual(['a in 1']);
    await rig.report(record, ({ ready, reason }) => ready === 1 && reason === null);
  });

  it.each([
    ['inward', 'a redirect within itself'],
    ['error', 'an error in the body of a 200'],
    ['bare', 'a 304 without a place'],
  ])('takes %s: %s', async (state) => {
    const { rig, record } = await opened(state);
    expect((await rig.run(record, ['a'])).status).toBe('completed');
  });

  it.each([
    [
      'outward',
      {},
      /answered 302, a redirect to http:\/\/169.254.169.254\/latest\/meta-data, which is not the engine/,
    ],
    ['round', {}, /answered more than 10 redirects/],
    ['slow', { timeoutMs: 50 }, /no answer within 50 ms/],
    ['up', { path: '/nothing' }, /GET \/nothing on port \d+: answered 404/],
  ])('does not take %s', async (state, probe, reason) => {
    const { rig, record } = await opened(state, { probe });
    // Until it listens, that is the reason.
    const report = await rig.report(record, (one) => reason.test(one.reason ?? ''));
    expect(report).toMatchObject({ ready: 0, starting: 1 });
  });

  it('names the port where nobody listens', async () => {
    const { rig, record } = await opened('up', { probe: { port: 1 } });
    const { reason } = await rig.report(record, (one) => one.reason !== null);
    expect(reason).toMatch(/GET \/ready on port 1: nobody listens there/);
  });

  it('may have a port of its own', async () => {
    const server = createServer((socket) => {
      // A probe that is stopped resets its connection.
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 204 No Content\r\n\r\n');
    });
    const port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
    });
    onTestFinished(() => void server.close());
    // The engine may not listen yet when the other one says that it is ready.
    const retry = {
      retries: 5,
      initialMs: 1,
      multiplier: 1,
      maxMs: 1,
      jitter: 0,
      retryOn: [],
      terminalOn: [],
    };
    const { rig, record } = await opened('down', { probe: { port } }, { retry });
    expect((await rig.run(record, ['a'])).status).toBe('completed');
  });

  it('takes a replica that broke out of service until it is well again, without starting it anew', async () => {
    const { rig, record, become } = await opened('up');
    expect((await rig.run(record, ['a'])).status).toBe('completed');
    await become('down');
    const broken = await rig.report(record, ({ ready, reason }) => ready === 0 && reason !== null);
    expect(broken.replicas).toMatchObject([{ state: 'starting', restarts: 0 }]);
    const call = await rig.submit(record, ['b']);
    await become('up');
    expect((await rig.finished(call)).values).toEqual(['b in 1']);
    const { replicas } = await rig.report(record, ({ ready, reason }) => ready === 1 && reason === null);
    expect(replicas?.[0]).toMatchObject({ restarts: 0, place: broken.replicas?.[0]?.place });
  });
});

describe('an engine of one thread', () => {
  it('that answers no probe while it computes is asked again when it has answered its batch', async () => {
    const probe = { timeoutMs: 200, failureThreshold: 1 };
    const { rig, record, become, leased } = await opened('up', { probe });
    expect((await rig.run(record, ['a'])).status).toBe('completed');
    const gate = new Gate(rig, 'gate');
    const call = await rig.submit(record, [`wait ${gate.path}`]);
    await leased(2);
    await become('slow');
    await rig.report(record, ({ ready, reason }) => ready === 0 && /no answer within/.test(reason ?? ''));
    await gate.open();
    expect((await rig.finished(call)).status).toBe('completed');
    await become('up');
    expect((await rig.run(record, ['b'])).status).toBe('completed');
  });
});

describe("a probe's counting", () => {
  it('needs as many good answers in a row, and then as many bad ones', () => {
    const readiness = new Readiness({ successThreshold: 2, failureThreshold: 3 });
    const after = (answers: string): boolean[] =>
      [...answers].map((answer) => {
        readiness.note(answer === '+');
        return readiness.isReady;
      });
    expect(after('+-++')).toEqual([false, false, false, true]);
    expect(after('--+--')).toEqual([true, true, true, true, true]);
    expect(after('-+-++')).toEqual([false, false, false, false, true]);
  });

  it('agrees with a look at the last answers, whatever they are', () => {
    const threshold = fc.integer({ min: 1, max: 4 });
    fc.assert(
      fc.property(threshold, threshold, fc.array(fc.boolean()), (good, bad, answers) => {
        const readiness = new Readiness({ successThreshold: good, failureThreshold: bad });
        let expected = false;
        answers.forEach((answer, i) => {
          readiness.note(answer);
          const last = (count: number): boolean[] =>
            i + 1 < count ? [] : answers.slice(i + 1 - count, i + 1);
          if (last(good).length > 0 && last(good).every(Boolean)) expected = true;
          if (last(bad).length > 0 && !last(bad).some(Boolean)) expected = false;
          expect(readiness.isReady).toBe(expected);
        });
      }),
    );
  });
});

import { describe, expect, it } from 'vitest';
import { look, WaitingNotice, waitingState } from '../../../cli/call/waiting-notice.ts';
import { ignoredLine } from '../../../cli/deploy/ignored-options.ts';
import { counted, reasonLine } from '../../../cli/print.ts';
import { type FunctionJson, Sluice } from '../../../sdk/index.ts';

type Replica = FunctionJson['replicas'][number];

const functionWith = (replica: Partial<Replica> | null, members: object = {}): FunctionJson => {
  const none = { version: 'v1', ready: 0, starting: 0, failed: 0, reason: null, ignored: [] };
  const replicas = replica === null ? [] : [{ ...none, ...replica }];
  const fn = { name: 'model.dbl', version: 'v1', paused: false, spec: { min_replicas: 1 }, replicas };
  return { ...fn, ...members } as unknown as FunctionJson;
};

describe('what a call waits for', () => {
  it('is the state of its version, the reason in a line, and where to look', () => {
    const show = '(sluice groups show dbl)';
    const cases: [FunctionJson, string | null][] = [
      [functionWith({ ready: 1 }), null],
      [functionWith({ ready: 1, starting: 1, reason: 'slow' }), null],
      [functionWith({ starting: 1 }), `model.dbl is starting ${show}`],
      [
        functionWith({ starting: 1, reason: 'no GPU is free' }),
        `model.dbl is starting: no GPU is free ${show}`,
      ],
      [functionWith(null), `model.dbl is starting ${show}`],
      [functionWith({ ready: 1, version: 'v0' }), `model.dbl is starting ${show}`],
      [functionWith({ failed: 1, reason: 'no memory\nmore' }), `model.dbl is failed: no memory ${show}`],
      [functionWith({ reason: 'refused' }), `model.dbl is failed: refused ${show}`],
      [functionWith(null, { spec: { min_replicas: 0 } }), `model.dbl is scaled to zero ${show}`],
      [functionWith({ ready: 1 }, { paused: true }), 'model.dbl is paused (sluice resume model.dbl)'],
      [functionWith({ starting: 1 }, { name: 'f' }), 'f is starting (sluice functions show f)'],
    ];
    for (const [fn, state] of cases) expect(waitingState(fn, 'v1')).toBe(state);
  });

  it('is the server itself where that does not answer, at once or in time', async () => {
    const fn = { functionName: 'f', version: 'v1' };
    const says = (answer: typeof fetch, signal = new AbortController().signal) =>
      look(new Sluice({ url: 'http://127.0.0.1:1', retries: 0, fetch: answer }), fn, signal);
    const silent = 'the server does not answer, and is asked again';
    expect(await says(() => Promise.reject(new TypeError('fetch failed')))).toBe(silent);
    expect(await says(fetch, AbortSignal.abort(new Error('too late')))).toBe(silent);
    expect(await says(async () => new Response('{"code":"unauthorized"}', { status: 401 }))).toBeNull();
  });

  it('is said at each change, and not more often than every ten seconds', () => {
    const notice = new WaitingNotice();
    const looks: [string | null, number, boolean][] = [
      [null, 2000, false],
      ['starting', 4000, true],
      ['starting', 16_000, false],
      ['failed', 18_000, true],
      ['starting', 20_000, false],
      ['starting', 28_000, true],
    ];
    for (const [state, now, isNews] of looks) expect([now, notice.isNews(state, now)]).toEqual([now, isNews]);
  });
});

describe('words', () => {
  it('of a reason are one line', () => {
    const traceback = 'Traceback (most recent call last):\n  File "m.py", line 1\nValueError: no number\n';
    expect(reasonLine(traceback)).toBe('ValueError: no number');
    const pip =
      '/e/bin/python ended with code 1\nCollecting nope\nERROR: No matching distribution found for nope';
    expect(reasonLine(pip)).toBe('ERROR: No matching distribution found for nope');
    expect(reasonLine('/e/bin/python ended with code 1')).toBe('/e/bin/python ended with code 1');
    expect(reasonLine(`the update to version 3 was rolled back: ${traceback}`)).toBe(
      'the update to version 3 was rolled back',
    );
  });

  it('have the number of what they count', () => {
    expect([counted(0, 'call'), counted(1, 'call'), counted(2, 'row')]).toEqual([
      '0 calls',
      '1 call',
      '2 rows',
    ]);
  });

  it('of what a function runs without are a sentence', () => {
    expect(ignoredLine('f', 'apt_install ffmpeg')).toBe('f: not honoured here: apt_install ffmpeg.\n');
    expect(ignoredLine('f', 'cpu=2 sets thread counts here, it is no limit')).toBe(
      'f: cpu=2 sets thread counts here, it is no limit.\n',
    );
  });
});

import { tableFromIPC } from 'apache-arrow';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { ARROW_STREAM } from '../../../shared/wire/api.ts';
import { type Answer, type Rig, type Row, settleAll, startRig, versionIdOf } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.stop());

/** A function of its own for each test, with one call of so many rows. */
const submitted = async (name: string, rows: number, more: object = {}): Promise<string> => {
  await rig.deploy(name, more);
  const text = Array.from({ length: rows }, (_, i) => `t${i}`);
  return (await rig.post(`/v1/functions/${name}/calls`, { columns: { text } })).json.call_id;
};
const settled = async (name: string, rowOf: (row: number) => Row, type?: 'float64'): Promise<void> =>
  settleAll(rig.store, await versionIdOf(rig.store, name), (_, row) => rowOf(row), type);
const boom = { code: 'handler_error', message: 'boom', kind: 'ValueError', traceback: 'at line 1' };
const result = (id: string, more = '', accept = 'application/json'): Promise<Answer> =>
  rig.ask(`/v1/calls/${id}/result${more}`, { headers: { accept } });
const arrowOf = async (id: string, more = '') => {
  const response = await fetch(`${rig.address}/v1/calls/${id}/result${more}`, {
    headers: { accept: ARROW_STREAM },
  });
  expect([response.status, response.headers.get('content-type')]).toEqual([200, ARROW_STREAM]);
  return tableFromIPC(new Uint8Array(await response.arrayBuffer()));
};

describe('a result', () => {
  it('is 409 until the call is finished', async () => {
    const id = await submitted('unfinished', 2);
    const { status, json } = await result(id);
    expect([status, json.code, json.retryable]).toEqual([409, 'result_not_ready', true]);
  });

  it('has the rows in order, with counts and times', async () => {
    const id = await submitted('whole', 5);
    await settled('whole', (row) => ({ value: row * row }));
    const { status, json, headers } = await result(id);
    expect(status).toBe(200);
    expect(json).toEqual({
      ...{ call_id: id, status: 'completed', rows: 5 },
      counts: { ok: 5, failed: 0, cancelled: 0, expired: 0, unfinished: 0 },
      ...{ result: [0, 1, 4, 9, 16], errors: [] },
    });
    const names = ['x-call-id', 'x-call-status', 'x-rows', 'x-rows-failed', 'x-handler-ms'];
    expect(names.map((name) => headers.get(name))).toEqual([id, 'completed', '5', '0', '2.5']);
    const table = await arrowOf(id);
    expect(table.schema.names).toEqual(['result']);
    expect([...table.getChild('result')!]).toEqual([0n, 1n, 4n, 9n, 16n]);
  });

  it('gives the rows that succeeded beside the errors of the others', async () => {
    const id = await submitted('mixed', 4);
    await settled('mixed', (row) => (row % 2 === 0 ? { value: row } : { error: boom }));
    const { json, headers } = await result(id);
    expect(json).toMatchObject({
      status: 'failed',
      counts: { ok: 2, failed: 2 },
      result: [0, null, 2, null],
    });
    expect(json.errors).toEqual([
      { from: 1, count: 1, ...boom },
      { from: 3, count: 1, ...boom },
    ]);
    expect(headers.get('x-rows-failed')).toBe('2');
    const table = await arrowOf(id);
    expect(table.schema.names).toEqual(['result', 'error']);
    expect([...table.getChild('result')!]).toEqual([0n, null, 2n, null]);
    const errors = [...table.getChild('error')!];
    expect([errors[0], JSON.parse(errors[1])]).toEqual([null, boom]);
  });

  it('of a cancelled call says so for each row, and partial shows what is there', async () => {
    const id = await submitted('cancelled', 3);
    const partial = await result(id, '?partial=true');
    expect(partial.json).toMatchObject({ status: 'pending', result: [null, null, null] });
    expect(partial.json.errors).toMatchObject([{ from: 0, count: 3, code: 'row_unfinished' }]);
    expect((await arrowOf(id, '?partial=true')).schema.names).toEqual(['result', 'error']);
    const cancelled = await rig.ask(`/v1/calls/${id}`, { method: 'DELETE' });
    expect(cancelled.json).toMatchObject({ status: 'cancelled', counts: { cancelled: 3 } });
    const again = await rig.ask(`/v1/calls/${id}`, { method: 'DELETE' });
    expect([again.status, again.json]).toEqual([200, cancelled.json]);
    expect((await result(id)).json.errors).toMatchObject([{ from: 0, count: 3, code: 'row_cancelled' }]);
  });

  it('larger than a page streams in order, with its errors at the end', async () => {
    const rows = 600_000;
    await rig.deploy('large', { max_batching_size: 1_000_000, output: { type: 'float64', nullable: true } });
    const body = rowsToStream({ text: Array.from({ length: rows }, () => 'x') });
    const headers = { 'content-type': ARROW_STREAM };
    const id = (await rig.post('/v1/functions/large/calls', body, headers)).json.call_id;
    const failed = new Set([0, 299_999, rows - 1]);
    await settled('large', (row) => (failed.has(row) ? { error: boom } : { value: row / 2 }), 'float64');
    const { json, headers: got } = await result(id);
    expect(got.get('transfer-encoding')).toBe('chunked');
    const wanted = Array.from({ length: rows }, (_, row) => (failed.has(row) ? null : row / 2));
    expect(json.result.length).toBe(rows);
    expect(json.result.every((value: unknown, row: number) => value === wanted[row])).toBe(true);
    expect(json.errors.map((error: { from: number }) => error.from)).toEqual([...failed]);
    const column = (await arrowOf(id)).getChild('result')!;
    expect(column.length).toBe(rows);
    expect([column.get(0), column.get(1), column.get(299_999), column.get(rows - 2)]).toEqual([
      null,
      0.5,
      null,
      (rows - 2) / 2,
    ]);
  });

  it('is in the form that Accept prefers', async () => {
    const id = await submitted('accepted', 1);
    await settled('accepted', () => ({ value: 1 }));
    const typeOf = async (accept: string) => (await result(id, '', accept)).headers.get('content-type');
    expect(await typeOf('*/*')).toMatch(/^application\/json/);
    expect(await typeOf(`${ARROW_STREAM}, application/json;q=0.5`)).toBe(ARROW_STREAM);
    expect(await typeOf(`${ARROW_STREAM};q=0.1, */*`)).toMatch(/^application\/json/);
    expect(await typeOf('application/json;q=0, */*;q=0.1')).toBe(ARROW_STREAM);
    expect((await result(id, '', 'text/csv')).status).toBe(406);
    expect((await result(id, '', 'application/json;q=0')).status).toBe(406);
  });
});

describe('a call id', () => {
  it.each(['x', 'c', '1', '../etc', 'c0000zzzz', '%00', 'C'.repeat(300)])('%s is 404', async (id) => {
    for (const route of [`/v1/calls/${id}`, `/v1/calls/${id}/result`]) {
      const { status } = await rig.ask(route);
      expect(status).toBe(404);
    }
  });

  it('with one wrong character is no other call', async () => {
    const id = await submitted('typing', 1);
    for (let at = 0; at < id.length; at += 1) {
      const wrong = id.slice(0, at) + (id[at] === '7' ? '8' : '7') + id.slice(at + 1);
      expect((await rig.ask(`/v1/calls/${wrong}`)).json.code).toBe('call_not_found');
    }
  });

  it('of another store is 410 and says so', async () => {
    const { CallIds } = await import('../../../shared/wire/call-id.ts');
    const { status, json } = await rig.ask(`/v1/calls/${new CallIds('another').encode(1)}`);
    expect([status, json.code]).toEqual([410, 'call_gone']);
    expect(json.detail).toMatch(/replaced/);
  });
});

describe('waiting', () => {
  it('answers when the call is finished, by long poll, by result and by events', async () => {
    const id = await submitted('polled', 2);
    const poll = rig.ask(`/v1/calls/${id}?wait=30`);
    const read = result(id, '?wait=30');
    const events = rig.ask(`/v1/calls/${id}/events`);
    await settled('polled', (row) => ({ value: row }));
    expect((await poll).json.status).toBe('completed');
    expect((await read).json.result).toEqual([0, 1]);
    const { headers, text } = await events;
    expect(headers.get('content-type')).toMatch(/^text\/event-stream/);
    const [name, data] = text.trimEnd().split('\n\n').at(-1)!.split('\n');
    expect(name).toBe('event: finished');
    expect(JSON.parse(data!.slice('data: '.length))).toMatchObject({ call_id: id, status: 'completed' });
  });

  it('answers the state when the time is over', async () => {
    const id = await submitted('slow', 1);
    expect((await rig.ask(`/v1/calls/${id}?wait=0.05`)).json.status).toBe('pending');
    expect((await result(id, '?wait=0.05')).status).toBe(409);
  });

  it.each(['wait=-1', 'wait=601', 'wait=soon', 'wait=1&wait=2', 'wiat=5', 'wait='])(
    'with ?%s is 400',
    async (query) => {
      const id = await submitted('asked', 1);
      const { status, json } = await rig.ask(`/v1/calls/${id}?${query}`);
      expect([status, json.code]).toEqual([400, 'invalid_request']);
      expect(json.field).toMatch(/wait|wiat/);
    },
  );
});

describe('the list of calls', () => {
  it('is newest first, paged, by function and status', async () => {
    await rig.deploy('listed');
    const ids: string[] = [];
    for (let i = 0; i < 5; i += 1) {
      ids.unshift((await rig.post('/v1/functions/listed/calls', { columns: { text: ['a'] } })).json.call_id);
    }
    const seen: string[] = [];
    let cursor = '';
    do {
      const page = await rig.ask(`/v1/calls?function=listed&limit=2${cursor}`);
      seen.push(...page.json.calls.map((call: { call_id: string }) => call.call_id));
      cursor = page.json.next_cursor === null ? '' : `&cursor=${page.json.next_cursor}`;
    } while (cursor !== '');
    expect(seen).toEqual(ids);
    await rig.ask(`/v1/calls/${ids[2]}`, { method: 'DELETE' });
    const cancelled = await rig.ask('/v1/calls?function=listed&status=cancelled');
    expect(cancelled.json.calls).toMatchObject([{ call_id: ids[2] }]);
  });

  it.each([
    ['limit=0', 'limit'],
    ['limit=1001', 'limit'],
    ['limit=ten', 'limit'],
    ['limit=1.5', 'limit'],
    ['cursor=zzz', 'cursor'],
    ['status=done', 'status'],
    ['page=2', 'page'],
  ])('with ?%s is 400 and names %s', async (query, field) => {
    const { status, json } = await rig.ask(`/v1/calls?${query}`);
    expect([status, json.field]).toEqual([400, field]);
  });
});

describe('acknowledging', () => {
  it('shortens the retention of a finished call, and of no other', async () => {
    const id = await submitted('read', 1);
    const early = await rig.ask(`/v1/calls/${id}/acknowledge`, { method: 'POST' });
    expect([early.status, early.json.code]).toEqual([409, 'result_not_ready']);
    await settled('read', () => ({ value: 1 }));
    const before = (await rig.ask(`/v1/calls/${id}`)).json.expires_at;
    expect((await rig.ask(`/v1/calls/${id}/acknowledge`, { method: 'POST' })).status).toBe(204);
    const after = (await rig.ask(`/v1/calls/${id}`)).json.expires_at;
    expect(Date.parse(after)).toBeLessThan(Date.parse(before));
  });
});

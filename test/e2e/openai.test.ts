/** OpenAI's own TypeScript client against the server, on every store. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Deployment, eventually } from '../support/sluice-process.ts';
import { onEveryStore } from '../support/stores.ts';

const clientOf = (server: Deployment): OpenAI =>
  new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });

/** What the client threw, as its callers see it. */
const refusal = async (work: Promise<unknown>) => {
  try {
    await work;
  } catch (error) {
    const { status, code, type, param, message, headers } = error as InstanceType<typeof OpenAI.APIError>;
    return { name: (error as object).constructor.name, status, code, type, param, message, headers };
  }
  throw new Error('nothing was refused');
};

onEveryStore((store) => {
  let server: Deployment;
  let client: OpenAI;
  let directory: string;
  beforeAll(async () => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-openai-'));
    server = await store.start();
    await server.deploy('test/fixtures/functions/openai.ts');
    client = clientOf(server);
  });
  afterAll(async () => {
    await server?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  const ordinary = async (name: string, columns: object): Promise<unknown[]> => {
    const answer = await fetch(`${server.url}/v1/functions/${name}/calls`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', prefer: 'wait=30' },
      body: JSON.stringify({ columns }),
    });
    return ((await answer.json()) as { result: unknown[] }).result;
  };

  describe('embeddings', () => {
    it('are those of the ordinary interface, as numbers and in the base64 that the client asks for', async () => {
      const input = ['one', 'deux', 'drei 🌍'];
      const wanted = await ordinary('embed', { text: input });
      const asNumbers = await client.embeddings.create({ model: 'embed', input, encoding_format: 'float' });
      const byDefault = await client.embeddings.create({ model: 'embed', input });
      for (const { data, model, object, usage } of [asNumbers, byDefault]) {
        expect(data.map(({ embedding }) => [...embedding])).toEqual(wanted);
        expect(data.map(({ index }) => index)).toEqual([0, 1, 2]);
        expect([model, object]).toEqual(['embed', 'list']);
        expect(usage).toEqual({ prompt_tokens: 5, total_tokens: 5, counted: 'estimated' });
      }
      const one = await client.embeddings.create({ model: 'embed', input: 'deux' });
      expect([...one.data[0]!.embedding]).toEqual(wanted[1]);
    });

    it('of token lists are counted exactly', async () => {
      const input = [[7, 8, 9], [4]];
      const { data, usage } = await client.embeddings.create({ model: 'embed-tokens', input });
      expect(data.map(({ embedding }) => [...embedding])).toEqual([
        [3, 7, 0.5],
        [1, 4, 0.5],
      ]);
      expect(usage).toEqual({ prompt_tokens: 4, total_tokens: 4, counted: 'exact' });
      const single = await client.embeddings.create({ model: 'embed-tokens', input: [5, 6] });
      expect([...single.data[0]!.embedding]).toEqual([2, 5, 0.5]);
    });

    it('are cut and brought to length one where fewer dimensions are asked for', async () => {
      const [whole] = (await ordinary('embed', { text: ['cut'] })) as number[][];
      const { data } = await client.embeddings.create({ model: 'embed', input: 'cut', dimensions: 3 });
      const head = whole!.slice(0, 3);
      const wanted = head.map((one) => one / Math.hypot(...head));
      expect(data[0]!.embedding).toHaveLength(3);
      data[0]!.embedding.forEach((one, i) => {
        expect(one).toBeCloseTo(wanted[i]!, 6);
      });
      const same = await client.embeddings.create({ model: 'embed', input: 'cut', dimensions: 8 });
      expect([...same.data[0]!.embedding]).toEqual(whole);
      expect(
        await refusal(client.embeddings.create({ model: 'embed', input: 'cut', dimensions: 9 })),
      ).toMatchObject({ name: 'BadRequestError', param: 'dimensions', code: 'invalid_request' });
    });

    it('of many callers share batches', async () => {
      const asked = Array.from({ length: 64 }, (_, i) =>
        client.embeddings.create({ model: 'batch-size', input: `shared ${i}` }),
      );
      const sizes = (await Promise.all(asked)).map(({ data }) => data[0]!.embedding[0]!);
      expect(Math.max(...sizes)).toBeGreaterThan(1);
    });

    it('of a caller who leaves are cancelled', async () => {
      const gate = path.join(directory, 'left');
      const controller = new AbortController();
      const asked = client.embeddings.create(
        { model: 'held', input: [gate, `${gate}-2`] },
        { signal: controller.signal },
      );
      await eventually('the first row runs', async () => existsSync(`${gate}.began`));
      controller.abort();
      await expect(asked).rejects.toThrow(OpenAI.APIUserAbortError);
      const cancelled = await eventually('the call is cancelled', async () => {
        const list = await fetch(`${server.url}/v1/calls?function=held&status=cancelled`);
        const { calls } = (await list.json()) as { calls: { counts: { cancelled: number } }[] };
        return calls[0];
      });
      expect(cancelled.counts.cancelled).toBe(2);
      writeFileSync(gate, '');
    });

    const many = Array.from({ length: 3000 }, () => 'x');
    it.each([
      ['nothing', { input: '' }, 'input'],
      ['an empty list', { input: [] }, 'input'],
      ['an empty text in a list', { input: ['a', ''] }, 'input[1]'],
      ['null', { input: null }, 'input'],
      ['null in a list', { input: ['a', null] }, 'input[1]'],
      ['a number', { input: 5 }, 'input'],
      ['an object', { input: { a: 1 } }, 'input'],
      ['3,000 inputs', { input: many }, 'input'],
      ['texts and tokens', { input: ['a', [1]] }, 'input[1]'],
      ['tokens for a model of texts', { input: [1, 2] }, 'input'],
      ['another format', { input: 'a', encoding_format: 'hex' }, 'encoding_format'],
      ['no dimensions', { input: 'a', dimensions: 0 }, 'dimensions'],
      ['half a dimension', { input: 'a', dimensions: 1.5 }, 'dimensions'],
      ['no such parameter', { input: 'a', truncate: true }, 'truncate'],
      ['a user that is no text', { input: 'a', user: 5 }, 'user'],
      ['a model that is not for it', { input: 'a', model: 'plain' }, 'model'],
      ['a model of the other task', { input: 'a', model: 'complete' }, 'model'],
      ['no model', { input: 'a', model: '' }, 'model'],
    ])('refuse %s', async (_, body, param) => {
      const found = await refusal(client.embeddings.create({ model: 'embed', ...body } as never));
      expect(found).toMatchObject({ name: 'BadRequestError', status: 400, param });
      expect(found.type).toBe('invalid_request_error');
      expect(found.message.length).toBeLessThan(600);
    });

    it('say what the handler said', async () => {
      const found = await refusal(client.embeddings.create({ model: 'embed', input: ['a', 'bad'] }));
      expect(found).toMatchObject({ name: 'BadRequestError', code: 'row_error', param: 'input[1]' });
      expect(found.message).toContain('BadText: this text is bad');
    });
  });

  describe('a model', () => {
    it('is every function, with its task', async () => {
      const { data } = await client.models.list();
      expect(data.map(({ id }) => id)).toEqual(
        expect.arrayContaining(['chat', 'complete', 'embed', 'embed-tokens', 'held', 'plain']),
      );
      const one = await client.models.retrieve('embed');
      expect(one).toMatchObject({ id: 'embed', object: 'model', owned_by: 'sluice', task: 'embedding' });
      expect(data).toContainEqual(one);
    });

    it('that is not there is not found, on every route', async () => {
      const asked = [
        () => client.models.retrieve('nobody'),
        () => client.embeddings.create({ model: 'nobody', input: 'a' }),
        () => client.completions.create({ model: 'nobody', prompt: 'a' }),
      ];
      for (const ask of asked)
        expect(await refusal(ask())).toMatchObject({
          ...{ name: 'NotFoundError', status: 404, code: 'model_not_found', type: 'invalid_request_error' },
        });
    });
  });

  describe('completions', () => {
    it('go on prompts, with what the function has an input for', async () => {
      const { choices, usage, object, id } = await client.completions.create({
        ...{ model: 'complete', prompt: ['a', 'b'], max_tokens: 8, temperature: 1 },
      });
      expect(choices.map(({ text }) => text)).toEqual(['a and so', 'b and so']);
      expect(usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 4, total_tokens: 6 });
      expect([object, id.startsWith('cmpl-')]).toEqual(['text_completion', true]);
    });

    it('answer messages', async () => {
      const { choices } = await client.chat.completions.create({
        model: 'chat',
        messages: [
          { role: 'system', content: 'be brief' },
          { role: 'user', content: [{ type: 'text', text: 'hello' }] },
        ],
      });
      expect(choices[0]!.message.content).toBe('system: be brief|user: hello');
      const single = await client.chat.completions.create({
        ...{ model: 'complete', messages: [{ role: 'user', content: 'hello' }], max_completion_tokens: 7 },
      });
      expect(single.choices[0]!.message.content).toBe('hello a');
    });

    it.each([
      ['a stream', { stream: true }, 'stream'],
      ['two answers', { n: 2 }, 'n'],
      ['a parameter that the function does not take', { temperature: 0.2 }, 'temperature'],
      [
        'an image',
        { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
        'messages[0].content[0]',
      ],
      ['no messages', { messages: [] }, 'messages'],
      ['another role', { messages: [{ role: 'tool', content: 'a' }] }, 'messages[0].role'],
      ['tools', { tools: [] }, 'tools'],
    ])('refuse %s', async (_, body, param) => {
      const messages = [{ role: 'user', content: 'a' }];
      const found = await refusal(
        client.chat.completions.create({ model: 'chat', messages, ...body } as never),
      );
      expect(found).toMatchObject({ name: 'BadRequestError', status: 400, param });
    });
  });

  const upload = (lines: readonly (object | string)[], name = 'requests.jsonl') => {
    const text = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n');
    return client.files.create({ file: new File([`${text}\n`], name), purpose: 'batch' });
  };
  const line = (id: string | number, body: object, url = '/v1/embeddings') => ({
    ...{ custom_id: String(id), method: 'POST', url, body },
  });
  const embedLine = (id: string | number, input: unknown = `text ${id}`, more: object = {}) =>
    line(id, { model: 'embed', input, ...more });
  const order = (file: { id: string }, more: object = {}) =>
    client.batches.create({
      ...{ input_file_id: file.id, endpoint: '/v1/embeddings', completion_window: '24h', ...more },
    });
  const ended = (id: string) =>
    eventually(`batch ${id} ends`, async () => {
      const batch = await client.batches.retrieve(id);
      return /^(failed|completed|expired|cancelled)$/.test(batch.status) && batch;
    });
  type Answer = {
    id: string;
    custom_id: string;
    // biome-ignore lint/suspicious/noExplicitAny: bodies of every route
    response: { status_code: number; request_id: string; body: any } | null;
    error: { code: string; message: string } | null;
  };
  const read = async (id: string | null | undefined): Promise<Answer[]> => {
    const text = await (await client.files.content(id!)).text();
    return text
      .trimEnd()
      .split('\n')
      .map((one) => JSON.parse(one) as Answer);
  };

  describe('files', () => {
    it('are stored, listed, shown, read and deleted', async () => {
      const made = await upload(['{"a": 1}', 'é'], 'mine.jsonl');
      expect(made).toMatchObject({
        ...{ object: 'file', filename: 'mine.jsonl', purpose: 'batch', status: 'processed', bytes: 12 },
      });
      expect(await client.files.retrieve(made.id)).toEqual(made);
      const second = await upload(['{}']);
      const { data } = await client.files.list({ purpose: 'batch', limit: 2 });
      expect(data.map(({ id }) => id).sort()).toEqual([made.id, second.id].sort());
      const paged: string[] = [];
      for await (const { id } of client.files.list({ limit: 1, order: 'asc' })) paged.push(id);
      expect(paged).toEqual(expect.arrayContaining([made.id, second.id]));
      expect(new Set(paged).size).toBe(paged.length);
      expect(await (await client.files.content(made.id)).text()).toBe('{"a": 1}\né\n');
      expect(await client.files.delete(made.id)).toEqual({ id: made.id, object: 'file', deleted: true });
      for (const work of [
        () => client.files.retrieve(made.id),
        () => client.files.content(made.id),
        () => client.files.delete(made.id),
        () => client.files.retrieve('file-none'),
        () => order(made),
      ])
        expect(await refusal(work())).toMatchObject({ name: 'NotFoundError', code: 'not_found' });
    });

    it('are refused where they are empty, of another purpose, or no files', async () => {
      const file = new File([''], 'empty.jsonl');
      expect(await refusal(client.files.create({ file, purpose: 'batch' }))).toMatchObject({
        ...{ name: 'BadRequestError', param: 'file' },
      });
      const other = client.files.create({ file: new File(['{}'], 'a'), purpose: 'fine-tune' });
      expect(await refusal(other)).toMatchObject({ name: 'BadRequestError', param: 'purpose' });
      const answer = await fetch(`${server.url}/v1/files`, {
        ...{ method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' },
      });
      expect(answer.status).toBe(415);
      expect(await answer.json()).toMatchObject({ error: { code: 'unsupported_media_type' } });
    });
  });

  describe('a batch', () => {
    it('answers every line in order, as the routes do', async () => {
      const lines = Array.from({ length: 2500 }, (_, i) =>
        i % 500 === 7 ? embedLine(i, 'bad') : embedLine(i, i % 3 === 0 ? [`a ${i}`, `b ${i}`] : `a ${i}`),
      );
      lines.push(line('none', { model: 'nobody', input: 'a' }), embedLine('empty', ''));
      lines.push(embedLine('base64', 'x', { encoding_format: 'base64', dimensions: 2 }));
      const batch = await order(await upload(lines), { metadata: { for: 'a test' } });
      expect(batch).toMatchObject({ object: 'batch', status: 'validating', metadata: { for: 'a test' } });
      const done = await ended(batch.id);
      expect(done).toMatchObject({
        ...{ status: 'completed', errors: null, metadata: { for: 'a test' } },
        request_counts: { total: 2503, completed: 2496, failed: 7 },
      });
      expect(done.completed_at).toBeGreaterThanOrEqual(done.created_at);
      const output = await read(done.output_file_id);
      const wrong = new Set([7, 507, 1007, 1507, 2007]);
      const wanted = [...Array(2500).keys()].filter((i) => !wrong.has(i)).map(String);
      expect(output.map((one) => one.custom_id)).toEqual([...wanted, 'base64']);
      const texts = ['a 0', 'b 0', 'a 1', 'a 2499'];
      const vectors = (await ordinary('embed', { text: texts })) as number[][];
      const of = (id: string) => output.find((one) => one.custom_id === id)!.response!;
      expect(of('0').body.data.map((one: { embedding: number[] }) => one.embedding)).toEqual(
        vectors.slice(0, 2),
      );
      expect(of('1').body.data[0].embedding).toEqual(vectors[2]);
      expect(of('2499').body.data[0].embedding).toEqual(vectors[3]);
      expect(of('1')).toMatchObject({ status_code: 200, body: { model: 'embed', object: 'list' } });
      expect(Buffer.from(of('base64').body.data[0].embedding, 'base64').length).toBe(8);
      const errors = await read(done.error_file_id);
      expect(errors.map((one) => one.custom_id)).toEqual([...[...wrong].map(String), 'none', 'empty']);
      expect(errors[0]!.response).toMatchObject({ status_code: 400, body: { error: { code: 'row_error' } } });
      expect(errors[5]!.response).toMatchObject({
        ...{ status_code: 404, body: { error: { code: 'model_not_found' } } },
      });
      expect(errors[6]!.response).toMatchObject({ status_code: 400, body: { error: { param: 'input' } } });
      const file = await client.files.retrieve(done.output_file_id!);
      expect(file.purpose).toBe('batch_output');
      const { data } = await client.batches.list({ limit: 1 });
      expect(data[0]).toEqual(done);
    });

    it('runs completions and chats', async () => {
      const url = '/v1/chat/completions';
      const messages = [{ role: 'user', content: 'hi' }];
      const file = await upload([line(1, { model: 'chat', messages }, url)]);
      const done = await ended((await order(file, { endpoint: url })).id);
      const [answer] = await read(done.output_file_id);
      expect(answer!.response!.body.choices[0].message.content).toBe('user: hi');
      const text = await upload([
        line('a', { model: 'complete', prompt: ['x', 'y'] }, '/v1/completions'),
        line('b', { model: 'complete', prompt: 'z', max_tokens: 2 }, '/v1/completions'),
      ]);
      const two = await ended((await order(text, { endpoint: '/v1/completions' })).id);
      const choices = (await read(two.output_file_id)).map(({ response }) =>
        response!.body.choices.map((one: { text: string }) => one.text),
      );
      expect(choices).toEqual([['x and so on', 'y and so on'], ['z ']]);
    });

    it('fails as a whole where lines are broken, before any of it runs', async () => {
      const note = path.join(directory, 'never');
      const file = await upload([
        embedLine('ok', `NOTE ${note}`),
        '{"custom_id": "torn"',
        '[1]',
        { ...embedLine('x'), method: 'GET' },
        line('y', {}, '/v1/completions'),
        { method: 'POST', url: '/v1/embeddings', body: {} },
        embedLine('ok'),
        '',
        { ...embedLine('z'), body: 'text' },
        { ...embedLine('w'), more: 1 },
      ]);
      const done = await ended((await order(file)).id);
      expect(done).toMatchObject({ status: 'failed', output_file_id: null, error_file_id: null });
      expect(done.errors!.data!.map(({ code, line: at, param }) => [code, at, param])).toEqual([
        ['invalid_json_line', 2, null],
        ['invalid_json_line', 3, null],
        ['invalid_method', 4, 'method'],
        ['invalid_url', 5, 'url'],
        ['missing_required_parameter', 6, 'custom_id'],
        ['duplicate_custom_id', 7, 'custom_id'],
        ['missing_required_parameter', 9, 'body'],
        ['invalid_request', 10, 'more'],
      ]);
      expect(existsSync(note)).toBe(false);
    });

    it('that is cancelled keeps what was answered and tells of the rest', async () => {
      const gate = path.join(directory, 'cancel');
      const waiting = Array.from({ length: 3000 }, (_, i) => line(i, { model: 'held', input: gate }));
      const batch = await order(await upload([embedLine('first'), ...waiting]));
      await eventually('a held row runs', async () => existsSync(`${gate}.began`));
      const cancelling = await client.batches.cancel(batch.id);
      expect(cancelling.status).toBe('cancelling');
      const done = await ended(batch.id);
      expect(done.status).toBe('cancelled');
      expect(done.request_counts).toEqual({ total: 3001, completed: 1, failed: 3000 });
      expect((await read(done.output_file_id)).map((one) => one.custom_id)).toEqual(['first']);
      const errors = await read(done.error_file_id);
      expect(errors.map((one) => one.custom_id)).toEqual(waiting.map((one) => one.custom_id));
      expect(new Set(errors.map(({ response, error }) => `${response} ${error!.code}`))).toEqual(
        new Set(['null batch_cancelled']),
      );
      expect(await refusal(client.batches.cancel(batch.id))).toMatchObject({ name: 'BadRequestError' });
    });

    it('whose window passes is expired, line by line', async () => {
      const gate = path.join(directory, 'expire');
      const waiting = [line('held', { model: 'held', input: gate }), embedLine('quick')];
      const done = await ended((await order(await upload(waiting), { completion_window: '2s' })).id);
      expect(done).toMatchObject({
        status: 'expired',
        request_counts: { total: 2, completed: 1, failed: 1 },
      });
      expect((await read(done.output_file_id)).map((one) => one.custom_id)).toEqual(['quick']);
      expect((await read(done.error_file_id))[0]).toMatchObject({
        ...{ custom_id: 'held', response: null, error: { code: 'batch_expired' } },
      });
    });

    it.each([
      ['another route', { endpoint: '/v1/responses' }, 'endpoint'],
      ['no window', { completion_window: 'soon' }, 'completion_window'],
      ['a window of years', { completion_window: '900d' }, 'completion_window'],
      ['metadata of numbers', { metadata: { a: 1 } }, 'metadata.a'],
      ['an unknown member', { priority: 'high' }, 'priority'],
    ])('is refused for %s', async (_, more, param) => {
      const file = await upload([embedLine(1)]);
      expect(await refusal(order(file, more))).toMatchObject({ name: 'BadRequestError', status: 400, param });
    });
  });
});

import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { DeploymentError, Sluice, TimeoutError } from '../../../sdk/index.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

type Asked = { readonly line: string; readonly body: unknown; readonly headers: IncomingMessage['headers'] };

/** A server whose answers follow from what it is asked; it keeps that. */
const answering = async (
  answer: (line: string, index: number) => { status?: number; value: unknown },
): Promise<{ client: Sluice; asked: Asked[] }> => {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const line = `${request.method} ${request.url}`;
      const text = Buffer.concat(pieces).toString();
      const { status = 200, value } = answer(line, asked.length);
      asked.push({ line, body: text === '' ? undefined : JSON.parse(text), headers: request.headers });
      const type = status < 300 ? 'application/json' : 'application/problem+json';
      response.writeHead(status, { 'content-type': type });
      response.end(status === 204 ? undefined : JSON.stringify(value));
    });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const client = new Sluice({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  return { client, asked };
};

describe('models', () => {
  it('are asked for page by page', async () => {
    const { client, asked } = await answering((line) => {
      const question = new URL(line.split(' ')[1]!, 'http://x').searchParams;
      const from = Number(question.get('after') ?? 121) - 1;
      const length = Math.min(Number(question.get('limit')), from);
      const versions = Array.from({ length }, (_, i) => ({ version: from - i }));
      return { value: { versions } };
    });
    const versions = await client.models.versions('a/b');
    expect(versions.map(({ version }) => version)).toEqual(Array.from({ length: 120 }, (_, i) => 120 - i));
    expect(asked.map(({ line }) => line)).toEqual([
      'GET /v1/models/a%2Fb/versions?limit=100',
      'GET /v1/models/a%2Fb/versions?limit=100&after=21',
    ]);
    expect((await client.models.versions('a', { limit: 3 })).length).toBe(3);
  });

  it('are changed by the requests of docs/decisions/0012-models.md', async () => {
    const { client, asked } = await answering((line) => ({
      status: line.startsWith('DELETE /v1/models/m/v') || line === 'DELETE /v1/models/m' ? 204 : 200,
      value: {},
    }));
    await client.models.register('m', { inputs: [], outputs: [] }, { idempotencyKey: 'k' });
    await client.models.setAlias('m', 'production', 3);
    await client.models.removeAlias('m', 'production');
    await client.models.setStage('m', 3, null);
    await client.models.describe('m', 'text');
    await client.models.compare('m', 1, 'production');
    await client.models.remove('m', 3);
    await client.models.remove('m');
    expect(asked.map(({ line, body }) => [line, body])).toEqual([
      ['POST /v1/models/m/versions', { inputs: [], outputs: [] }],
      ['PUT /v1/models/m/aliases/production', { version: 3 }],
      ['DELETE /v1/models/m/aliases/production', undefined],
      ['PATCH /v1/models/m/versions/3', { stage: null }],
      ['PATCH /v1/models/m', { description: 'text' }],
      ['GET /v1/models/m/compare?from=1&to=production', undefined],
      ['DELETE /v1/models/m/versions/3', undefined],
      ['DELETE /v1/models/m', undefined],
    ]);
    expect(asked[0]!.headers['idempotency-key']).toBe('k');
  });
});

const group = (state: string, more: object = {}) => ({
  ...{ name: 'g', state, reason: null, update: null, events: [] },
  ...{ replicas: { ready: 0, starting: 0, failed: 0, details: [] }, ...more },
});

describe('waiting for a scaling group', () => {
  it('ends when the group serves what was deployed last', async () => {
    const states = [group('starting'), group('updating', { update: { version: 2 } }), group('ready')];
    const { client, asked } = await answering((_, index) => ({ value: states[index] }));
    const seen: string[] = [];
    const ready = await client.scalingGroups.waitReady('g', { onState: ({ state }) => seen.push(state) });
    expect([ready.state, seen, asked.length]).toEqual(['ready', ['starting', 'updating', 'ready'], 3]);
  });

  it('is listed with all others, page by page', async () => {
    const names = Array.from({ length: 150 }, (_, i) => `g${String(i).padStart(3, '0')}`);
    const { client, asked } = await answering((line) => {
      const question = new URL(line.split(' ')[1]!, 'http://x').searchParams;
      const rest = names.filter((name) => name > (question.get('after') ?? ''));
      return {
        value: { scaling_groups: rest.slice(0, Number(question.get('limit'))).map((name) => ({ name })) },
      };
    });
    expect((await client.scalingGroups.list()).map(({ name }) => name)).toEqual(names);
    expect(asked.map(({ line }) => line)).toEqual([
      'GET /v1/scaling-groups?limit=100',
      'GET /v1/scaling-groups?limit=100&after=g099',
    ]);
  });

  it('fails when no replica can start, or when the update is rolled back', async () => {
    const failed = await answering(() => ({ value: group('failed', { reason: 'no numpy' }) }));
    await expect(failed.client.scalingGroups.waitReady('g')).rejects.toThrow(
      'Scaling group g cannot serve: no numpy',
    );
    const event = { at: '2026-01-01T00:00:00Z', kind: 'rolled_back', text: 'version 2 is not ready' };
    const begun = group('updating', { update: { version: 2 } });
    const { client } = await answering((_, index) => ({
      value: index === 0 ? begun : group('ready', { events: [event] }),
    }));
    const error = await client.scalingGroups.waitReady('g').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DeploymentError);
    expect(error).toMatchObject({ state: 'rolled_back', reason: 'version 2 is not ready' });
  });

  it('is over after the time that was given, and says how the group is', async () => {
    const { client } = await answering(() => ({ value: group('starting', { reason: 'pip installs' }) }));
    const error = await client.scalingGroups
      .waitReady('g', { timeoutMs: 0 })
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TimeoutError);
    expect(String(error)).toContain('is starting after 0 ms: pip installs');
  });

  it('is forced to go only when asked', async () => {
    const { client, asked } = await answering(() => ({ status: 204, value: null }));
    await client.scalingGroups.remove('g');
    await client.scalingGroups.remove('g', { isForced: true });
    expect(asked.map(({ line }) => line)).toEqual([
      'DELETE /v1/scaling-groups/g',
      'DELETE /v1/scaling-groups/g?force=true',
    ]);
  });
});

describe('the inference store of a group', () => {
  it('is listed page by page', async () => {
    const { client, asked } = await answering((_, index) => ({
      value: { inference_files: [{ rows: index }], next: index < 2 ? `n${index}` : null },
    }));
    const from = new Date(Date.UTC(2026, 10, 1));
    const files = await client.scalingGroups.inferenceFiles('g', { from, until: '2026-11-02T00:00:00Z' });
    expect(files.map(({ rows }) => rows)).toEqual([0, 1, 2]);
    const span = 'from=2026-11-01T00%3A00%3A00.000Z&until=2026-11-02T00%3A00%3A00Z&limit=1000';
    expect(asked.map(({ line }) => line)).toEqual([
      `GET /v1/scaling-groups/g/inference-files?${span}`,
      `GET /v1/scaling-groups/g/inference-files?${span}&after=n0`,
      `GET /v1/scaling-groups/g/inference-files?${span}&after=n1`,
    ]);
    const two = await answering((_, index) => ({ value: { inference_files: [{ rows: index }], next: 'n' } }));
    expect((await two.client.scalingGroups.inferenceFiles('g', { limit: 2 })).length).toBe(2);
    expect(two.asked.map(({ line }) => line.split('?')[1])).toEqual(['limit=2', 'limit=1&after=n']);
  });

  it('is compared with a reference from one request to another', async () => {
    const reference = { from: '2026-11-01T00:00:00Z', until: '2026-11-02T00:00:00Z' };
    const { client, asked } = await answering((line) => ({
      status: line.startsWith('DELETE') ? 204 : 200,
      value: { reference, window_ms: 1000, figures: null },
    }));
    await client.scalingGroups.setDrift('g', { reference, window_ms: 1000 });
    expect((await client.scalingGroups.drift('g')).figures).toBe(null);
    await client.scalingGroups.endDrift('g');
    expect(asked.map(({ line, body }) => [line, body])).toEqual([
      ['PUT /v1/scaling-groups/g/drift', { reference, window_ms: 1000 }],
      ['GET /v1/scaling-groups/g/drift', undefined],
      ['DELETE /v1/scaling-groups/g/drift', undefined],
    ]);
  });
});

/** The watch against a server that answers what a real one answers seldom: a list that is too old, a stream that is cut. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { KubeConfig, type V1Pod } from '@kubernetes/client-node';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { Cluster } from '../../../../workers/kubernetes/cluster.ts';
import { PodWatch } from '../../../../workers/kubernetes/pod-watch.ts';

const pod = (name: string, revision: number) => ({
  metadata: { name, namespace: 'n', uid: name, resourceVersion: String(revision) },
});

/** Each request is answered by the next of these. */
type Answer = (response: ServerResponse) => void;

const list =
  (revision: number, ...names: string[]): Answer =>
  (response) => {
    const items = names.map((name) => pod(name, revision));
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ kind: 'PodList', metadata: { resourceVersion: String(revision) }, items }));
  };

const stream =
  (end: 'open' | 'close' | 'cut', ...events: object[]): Answer =>
  (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    for (const event of events) response.write(`${JSON.stringify(event)}\n`);
    if (end === 'close') response.end();
    if (end === 'cut') setImmediate(() => response.destroy());
  };

const refuse =
  (status: number): Answer =>
  (response) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ kind: 'Status', code: status, message: 'no' }));
  };

const follow = async (...answers: Answer[]) => {
  const asked: string[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    const { searchParams } = new URL(request.url!, 'http://api');
    asked.push(searchParams.get('watch') === null ? 'list' : `watch ${searchParams.get('resourceVersion')}`);
    (answers.shift() ?? stream('open'))(response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const config = new KubeConfig();
  const { port } = server.address() as { port: number };
  config.loadFromClusterAndUser(
    { name: 'c', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
    { name: 'u' },
  );
  const seen: string[][] = [];
  const lost: string[] = [];
  const watch = new PodWatch({
    cluster: new Cluster(config),
    namespace: 'n',
    selector: 'a=b',
    onPods: (pods: readonly V1Pod[]) => seen.push(pods.map(({ metadata }) => metadata!.name!).toSorted()),
    onLost: (reason) => lost.push(reason),
  });
  onTestFinished(() => {
    watch.stop();
    server.closeAllConnections();
    server.close();
  });
  const last = (names: string[]) => vi.waitFor(() => expect(seen.at(-1)).toEqual(names), { timeout: 20_000 });
  return { asked, seen, lost, last };
};

describe('the pods of a version', () => {
  it('are told as a list, after each change', async () => {
    const { last, seen, lost } = await follow(
      list(1, 'a'),
      stream('open', { type: 'ADDED', object: pod('b', 2) }, { type: 'DELETED', object: pod('a', 3) }),
    );
    await last(['b']);
    expect(seen[0]).toEqual(['a']);
    expect(lost).toEqual([]);
  });

  it('are told where there are none', async () => {
    const { last } = await follow(list(1));
    await last([]);
  });

  it('are listed anew when the server has forgotten what came after the list, and one that is gone is missed', async () => {
    const gone = { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } };
    const { last, asked } = await follow(list(5, 'a', 'b'), stream('close', gone), list(90, 'b'));
    await last(['b']);
    expect(asked.slice(0, 3)).toEqual(['list', 'watch 5', 'list']);
  });

  it('are listed anew when the watch itself is refused as too old', async () => {
    const { last } = await follow(list(5, 'a', 'b'), refuse(410), list(90, 'b'));
    await last(['b']);
  });

  it('stay as they were while the server is lost, and are listed when it is back', async () => {
    const { last, lost, seen } = await follow(
      list(5, 'a', 'b'),
      stream('cut', { type: 'ADDED', object: pod('c', 6) }),
      refuse(503),
      list(1, 'c'),
    );
    await last(['c']);
    expect(lost.length).toBeGreaterThan(0);
    expect(seen).not.toContainEqual([]);
  });

  it('go on from where a watch ended that was closed in order', async () => {
    const { last, asked } = await follow(
      list(5, 'a'),
      stream('close', { type: 'ADDED', object: pod('b', 7) }),
      stream('open', { type: 'DELETED', object: pod('a', 8) }),
    );
    await last(['b']);
    expect(asked).toEqual(['list', 'watch 5', 'watch 7']);
  });
});

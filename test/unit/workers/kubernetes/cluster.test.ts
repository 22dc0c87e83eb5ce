/** Answers of an API server that starts: nothing is wrong with what was asked, and the server is not there yet. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { KubeConfig } from '@kubernetes/client-node';
import { expect, it, onTestFinished } from 'vitest';
import { Cluster, type ClusterError } from '../../../../workers/kubernetes/cluster.ts';

const clusterThatSays = async (code: number, body: object | string): Promise<Cluster> => {
  const server = createServer((_request, response) => {
    response.writeHead(code, {
      'content-type': typeof body === 'string' ? 'text/plain' : 'application/json',
    });
    response.end(typeof body === 'string' ? body : JSON.stringify({ kind: 'Status', code, ...body }));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const config = new KubeConfig();
  const { port } = server.address() as { port: number };
  config.loadFromClusterAndUser(
    { name: 'c', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
    { name: 'u' },
  );
  return new Cluster(config);
};

const failure = (cluster: Cluster): Promise<ClusterError> =>
  cluster.pods('n', 'a=b').then(
    () => Promise.reject(new Error('it was answered')),
    (error: ClusterError) => error,
  );

const INITIALIZING = { reason: 'TooManyRequests', message: 'storage is (re)initializing' };
const TIMEOUT = {
  reason: 'ServerTimeout',
  message: 'The list operation against pods could not be completed at this time, please try again.',
};

it.each([
  [429, INITIALIZING, INITIALIZING.message],
  [500, TIMEOUT, TIMEOUT.message],
  [503, 'apiserver is shutting down', 'apiserver is shutting down'],
  [502, { reason: 'x' }, 'x'],
  [504, {}, 'status 504'],
])('an API server that says %i to try again is as one that is not reached', async (code, body, said) => {
  const cluster = await clusterThatSays(code, body);
  const { status, message } = await failure(cluster);
  expect(status).toBe(0);
  expect(message).toBe(
    `pods cannot be listed: the Kubernetes API at ${cluster.address} is not reached: ${said}`,
  );
});

it('what it finds wrong is told as it is', async () => {
  const cluster = await clusterThatSays(500, { reason: 'InternalError', message: 'etcdserver: no leader' });
  expect(await failure(cluster)).toMatchObject({
    status: 500,
    message: 'pods cannot be listed: etcdserver: no leader',
  });
});

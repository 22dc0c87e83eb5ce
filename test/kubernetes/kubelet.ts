/** The one thing of a kubelet that only a kubelet serves: the logs of its containers, for the API server to fetch. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import path from 'node:path';
import type { TestCluster } from './test-cluster.ts';

export class Kubelet {
  readonly #server: Server;
  readonly #open = new Set<ServerResponse>();
  readonly asked: URL[] = [];

  private constructor(server: Server) {
    this.#server = server;
  }

  /** The node `name` of the cluster. */
  static async start(cluster: TestCluster, name: string): Promise<Kubelet> {
    const file = (extension: string): Buffer =>
      readFileSync(path.join(cluster.directory, 'certificates', `apiserver.${extension}`));
    const server = createServer({ cert: file('crt'), key: file('key') }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const kubelet = new Kubelet(server);
    server.on('request', (request, response) => {
      kubelet.asked.push(new URL(request.url!, 'https://kubelet'));
      response.writeHead(200, { 'content-type': 'text/plain' }).flushHeaders();
      kubelet.#open.add(response);
    });
    const { port } = server.address() as { port: number };
    const node = await cluster.core.createNode({ body: { metadata: { name } } });
    const status = {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
    };
    await cluster.core.replaceNodeStatus({ name, body: { ...node, status } });
    return kubelet;
  }

  print(at: string, text: string): void {
    for (const response of this.#open) response.write(`${at} ${text}\n`);
  }

  /** As a kubelet does that is restarted. */
  cut(): void {
    for (const response of this.#open) response.destroy();
    this.#open.clear();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

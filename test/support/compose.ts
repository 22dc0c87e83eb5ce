/** The compose file as its users run it: by `docker compose` and a Docker daemon, in a project of the test's own. */
import { execFile } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './free-port.ts';
import { ROOT } from './sluice-process.ts';

const execute = promisify(execFile);

const docker = async (...args: string[]): Promise<string> =>
  (await execute('docker', args, { cwd: ROOT, maxBuffer: 2 ** 26 })).stdout.trim();

/** Why the compose file cannot be run here; null where it can. */
export const whyNoCompose = async (): Promise<string | null> => {
  try {
    await docker('info', '--format', '{{.ServerVersion}}');
  } catch {
    return 'no Docker daemon answers `docker info`';
  }
  try {
    await docker('compose', 'version');
    return null;
  } catch {
    return 'docker has no `compose`';
  }
};

type Listed = { readonly Service: string; readonly State: string; readonly Health: string };

/** A project with the services of deploy/compose.yaml, whose published ports are free ones. */
export class ComposeProject {
  readonly #ports: ReadonlyMap<string, number>;
  readonly #project = `sluice-test-${process.pid}`;
  readonly #override = path.join(os.tmpdir(), `${this.#project}.yaml`);

  private constructor(lines: readonly string[], ports: ReadonlyMap<string, number>) {
    this.#ports = ports;
    writeFileSync(this.#override, ['services:', ...lines, ''].join('\n'));
  }

  /** @param published the services that publish a port, and the port inside */
  static async of(published: Readonly<Record<string, number>>): Promise<ComposeProject> {
    const ports = new Map<string, number>();
    const lines: string[] = [];
    for (const [service, inside] of Object.entries(published)) {
      const port = await freePort();
      ports.set(service, port);
      lines.push(`  ${service}:`, `    ports: !override ["127.0.0.1:${port}:${inside}"]`);
    }
    return new ComposeProject(lines, ports);
  }

  run(...args: string[]): Promise<string> {
    const files = ['--file', 'deploy/compose.yaml', '--file', this.#override];
    return docker('compose', '--project-name', this.#project, ...files, '--ansi', 'never', ...args);
  }

  url(service: string): string {
    return `http://127.0.0.1:${this.#ports.get(service)}`;
  }

  logs(service: string): Promise<string> {
    return this.run('logs', '--no-log-prefix', '--no-color', service);
  }

  /** Each container of the services, those that have left among them. */
  async containers(): Promise<Listed[]> {
    const lines = await this.run('ps', '--all', '--format', 'json');
    return lines.split('\n').map((line) => JSON.parse(line) as Listed);
  }

  /** Whether each container of a service is healthy. */
  async isHealthy(service: string): Promise<boolean> {
    const own = (await this.containers()).filter(({ Service }) => Service === service);
    return own.length > 0 && own.every(({ Health }) => Health === 'healthy');
  }

  /** Takes away everything but images. */
  async remove(): Promise<void> {
    await this.run('down', '--volumes', '--timeout', '5');
    rmSync(this.#override, { force: true });
  }
}

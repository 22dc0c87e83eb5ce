/** The init container as it runs in a pod, against a server that breaks off, lies, or refuses. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { listDigest } from '../../../../workers/kubernetes/file-list.ts';
import { copyEntrypoint, fetchModel } from '../../../../workers/kubernetes/model-files.ts';

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const fileOf = (name: string, bytes: Buffer) => ({
  path: name,
  digest: digestOf(bytes),
  bytes: bytes.length,
});

const WEIGHTS = Buffer.alloc(300_000, 'weights');
const EMPTY = Buffer.alloc(0);
const SOURCE = [{ path: 'pkg/model.py', content: Buffer.from('class M: ...').toString('base64') }];

const directory = (): string => {
  const made = mkdtempSync(path.join(tmpdir(), 'sluice-init-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
};

type Files = readonly ReturnType<typeof fileOf>[];

const serve = async (
  files: Files,
  artifact: (request: IncomingMessage, response: ServerResponse, digest: string) => void,
) => {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.url} ${request.headers.range ?? ''}`.trim());
    if (request.headers.authorization !== 'Bearer the-key') {
      response.writeHead(401).end('no key');
      return;
    }
    if (request.url === '/v1/models/house/versions/3') {
      const handler = { file: 'pkg/model.py', attribute: 'M' };
      response.end(JSON.stringify({ files, source: SOURCE, handler, loader: { version: 1 } }));
      return;
    }
    artifact(request, response, request.url!.replace('/v1/artifacts/', ''));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const into = directory();
  const keyFile = path.join(directory(), 'key');
  writeFileSync(keyFile, 'the-key\n');
  const options = {
    address: `http://127.0.0.1:${port}/`,
    keyFile,
    model: 'house',
    version: '3',
    list: listDigest(files, []),
    into,
    served: null,
    say: () => {},
    firstPauseMs: 1,
  };
  return { asked, into, options };
};

/** As Sluice's API does it. */
const whole =
  (...contents: Buffer[]) =>
  (request: IncomingMessage, response: ServerResponse, digest: string): void => {
    const bytes = contents.find((content) => digestOf(content) === digest)!;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200).end(bytes.subarray(from));
  };

describe('model files in a pod', () => {
  it('are fetched into their places, read-only, and not again', async () => {
    const files = [fileOf('weights/part-1.bin', WEIGHTS), fileOf('empty', EMPTY)];
    const { options, into, asked } = await serve(files, whole(WEIGHTS, EMPTY));
    await fetchModel(options);
    expect(readFileSync(path.join(into, 'weights/part-1.bin')).equals(WEIGHTS)).toBe(true);
    expect(statSync(path.join(into, 'weights/part-1.bin')).mode & 0o777).toBe(0o444);
    expect(statSync(path.join(into, 'empty')).size).toBe(0);
    asked.length = 0;
    await fetchModel(options);
    expect(asked).toEqual(['/v1/models/house/versions/3']);
  });

  it('go on where the connection broke', async () => {
    let tries = 0;
    const files = [fileOf('w', WEIGHTS)];
    const { options, into, asked } = await serve(files, (request, response, digest) => {
      tries += 1;
      if (tries > 2) {
        whole(WEIGHTS)(request, response, digest);
        return;
      }
      const from = Number(/\d+/.exec(request.headers.range ?? '0')![0]);
      response.writeHead(from > 0 ? 206 : 200, { 'content-length': String(WEIGHTS.length - from) });
      response.write(WEIGHTS.subarray(from, from + 100_000), () => response.destroy());
    });
    await fetchModel(options);
    expect(readFileSync(path.join(into, 'w')).equals(WEIGHTS)).toBe(true);
    expect(asked.filter((line) => line.includes('bytes=')).length).toBeGreaterThan(0);
  });

  it('are asked for again when the server is busy, and not when it refuses', async () => {
    let tries = 0;
    const files = [fileOf('w', WEIGHTS)];
    const busy = await serve(files, (request, response, digest) => {
      tries += 1;
      if (tries < 3) response.writeHead(503).end('later');
      else whole(WEIGHTS)(request, response, digest);
    });
    await fetchModel(busy.options);
    expect(tries).toBe(3);
    const refusing = await serve(files, (_, response) => response.writeHead(404).end('not there'));
    await expect(fetchModel(refusing.options)).rejects.toThrow(/answered 404: not there/);
    expect(refusing.asked).toHaveLength(2);
    writeFileSync(refusing.options.keyFile, 'another');
    await expect(fetchModel(refusing.options)).rejects.toThrow(/answered 401: no key/);
  });

  it('are refused when bytes, list or paths are others than those that were deployed', async () => {
    const files = [fileOf('w', WEIGHTS)];
    const wrong = Buffer.from(WEIGHTS);
    wrong[5] = 0;
    const lying = await serve(files, (_, response) => response.end(wrong));
    await expect(fetchModel(lying.options)).rejects.toThrow(/w has the digest sha256:\w+, not sha256:/);
    const endless = await serve(files, (_, response) => response.end(Buffer.concat([WEIGHTS, WEIGHTS])));
    await expect(fetchModel(endless.options)).rejects.toThrow(/sent more than the 300000 bytes/);
    const other = await serve(files, whole(WEIGHTS));
    await expect(fetchModel({ ...other.options, list: listDigest([], []) })).rejects.toThrow(
      /version 3 of model house is another at/,
    );
    for (const name of ['../w', '/etc/w', 'a/../../w', 'a/../w']) {
      const leaving = await serve([fileOf(name, WEIGHTS)], whole(WEIGHTS));
      await expect(fetchModel(leaving.options)).rejects.toThrow(/leaves the model's directory/);
    }
  });

  it('come with the class that our entrypoint is to serve', async () => {
    const files = [fileOf('w', WEIGHTS)];
    const { options } = await serve(files, whole(WEIGHTS));
    const home = directory();
    const served = { home, output: '{"type":"float64","nullable":true}' };
    await fetchModel({ ...options, list: listDigest(files, SOURCE), served });
    expect(readFileSync(path.join(home, 'source/pkg/model.py'), 'utf8')).toBe('class M: ...');
    expect(JSON.parse(readFileSync(path.join(home, 'function.json'), 'utf8'))).toEqual({
      name: 'house',
      handler: { file: 'pkg/model.py', attribute: 'M' },
      output: { type: 'float64', nullable: true },
      model: { name: 'house', version: 3, files, loader: { version: 1 } },
    });
  });
});

describe('the init container', () => {
  const run = async (...args: string[]): Promise<{ code: number; stderr: string }> => {
    const program = path.resolve(import.meta.dirname, '../../../../workers/kubernetes/init-container.ts');
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const [code] = (await once(child, 'close')) as [number];
    return { code, stderr };
  };

  it('does what its arguments say, and ends with why it cannot', async () => {
    const files = [fileOf('w', WEIGHTS)];
    const { options, into } = await serve(files, whole(WEIGHTS));
    const args = [
      ...['--address', options.address, '--key-file', options.keyFile, '--model', 'house', '--version', '3'],
      ...['--into', into],
    ];
    expect(await run(...args, '--list', options.list)).toEqual({ code: 0, stderr: '' });
    expect(readFileSync(path.join(into, 'w')).equals(WEIGHTS)).toBe(true);
    const failed = await run(...args, '--list', 'sha256:0');
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/^version 3 of model house is another at .*\n$/);
  });

  it('puts the Python package where the handler finds it', async () => {
    const home = directory();
    const from = path.resolve(import.meta.dirname, '../../../../python/src/sluic*');
    await copyEntrypoint(from, path.join(home, 'python'));
    expect(statSync(path.join(home, 'python/sluice/remote_call/__main__.py')).isFile()).toBe(true);
    await expect(copyEntrypoint('/nowhere/*/sluice', home)).rejects.toThrow(/must be Sluice's own image/);
  });
});

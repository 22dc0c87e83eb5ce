/** Models and scaling groups on a real store and a real directory of artifacts, with a clock that tests set. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Engines } from '../../services/registry/engines.ts';
import { Models } from '../../services/registry/models.ts';
import { RegistrySweep } from '../../services/registry/registry-sweep.ts';
import { GroupRecords, groupHoldings } from '../../services/scaling/group-records.ts';
import { Groups } from '../../services/scaling/groups.ts';
import { Rollouts } from '../../services/scaling/rollouts.ts';
import type { ReplicaFacts } from '../../shared/domain/function.ts';
import { silentLog } from '../../shared/runtime/log.ts';
import { openArtifacts } from '../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../shared/store/ports/artifacts.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import type { StoreServer } from '../../shared/store/ports/server.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { REGISTRATION } from './model-registration.ts';

/** A process that looks after models: what it has of the store is its own. */
export type ModelProcess = {
  readonly store: Store;
  readonly models: Models;
  readonly engines: Engines;
  readonly groups: Groups;
  readonly rollouts: Rollouts;
  readonly sweep: RegistrySweep;
};

export class ModelRig {
  readonly #server: StoreServer;
  readonly #directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-model-rig-'));
  readonly #stores: Store[] = [];
  readonly artifacts: Artifacts;
  readonly main: ModelProcess;
  now = Date.now();

  constructor(server: StoreServer) {
    this.#server = server;
    this.artifacts = openArtifacts({
      kind: 'directory',
      directory: path.join(this.#directory, 'artifacts'),
      reserveBytes: 0,
    });
    this.main = this.process();
  }

  /** @param documents in place of the store's own: a fault around them */
  process(documents: (real: Documents) => Documents = (real) => real): ModelProcess {
    const real = this.#server.connect();
    this.#stores.push(real);
    // A store is a class with getters; what is not overridden stays its own.
    const store = Object.create(real, { documents: { value: documents(real.documents) } }) as Store;
    const models = new Models(store.documents, this.artifacts);
    const engines = new Engines(store.documents);
    const wall = (): number => this.now;
    const records = new GroupRecords(store.documents);
    const log = silentLog();
    return {
      store,
      models,
      engines,
      groups: new Groups({ store, models, engines, changed: async () => undefined, known: () => undefined }),
      rollouts: new Rollouts({ store, models, engines, log, wall }),
      sweep: new RegistrySweep({
        ...{ store, artifacts: this.artifacts, log, wall },
        holdings: async () => groupHoldings(await records.all()),
      }),
    };
  }

  async register(name: string, more: object = {}, process = this.main): Promise<number> {
    const body = { ...REGISTRATION, ...more };
    const request = { name, body, apiKeyId: 0, idempotencyKey: null, now: this.now };
    return (await process.models.register(request)).view.version;
  }

  deploy(group: string, more: object = {}, process = this.main) {
    return process.groups.deploy(group, { model: 'house', ...more }, this.now);
  }

  show(group: string) {
    return this.main.groups.show(group);
  }

  async upload(text: string): Promise<{ readonly digest: string; readonly bytes: number }> {
    const body = Buffer.from(text);
    const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`;
    const pieces = async function* () {
      yield body;
    };
    await this.artifacts.append({ digest, offsetBytes: 0, bytes: body.length, body: pieces() });
    return { digest, bytes: body.length };
  }

  /** What a worker tells of the version of the group's function with this model version. */
  async report(
    group: string,
    version: number,
    replicas: readonly Partial<ReplicaFacts>[],
    reason: string | null = null,
  ) {
    const record = (await this.main.store.registry.function(`model.${group}`))!;
    const found = record.versions.findLast(({ spec }) => spec.model?.version === version)!;
    await this.#tell(found.id, replicas, reason);
  }

  /** What a worker tells of the version that is to take over. */
  async reportStaged(group: string, replicas: readonly Partial<ReplicaFacts>[]) {
    const record = (await this.main.store.registry.function(`model.${group}`))!;
    await this.#tell(record.staged!.id, replicas, null);
  }

  async #tell(versionId: number, replicas: readonly Partial<ReplicaFacts>[], reason: string | null) {
    const facts = replicas.map(
      (one, index): ReplicaFacts => ({
        ...{ index, state: 'ready', since: this.now, reason: null, place: null, devices: [] },
        ...{ restarts: 0, runningRows: 0, cpuPercent: null, memoryBytes: null },
        ...one,
      }),
    );
    const count = (state: string) => facts.filter((one) => one.state === state).length;
    await this.main.store.registry.report({
      now: this.now,
      report: {
        ...{ workerId: 'w', versionId, reason, ignored: [], replicas: facts },
        ...{ ready: count('ready'), starting: count('starting'), failed: count('failed') },
        until: this.now + 3_600_000,
      },
    });
  }

  /** The model versions of the function that serves and of the one that is staged. */
  async running(group: string): Promise<readonly (number | null)[]> {
    const record = await this.main.store.registry.function(`model.${group}`);
    return [record?.current.spec.model?.version ?? null, record?.staged?.spec.model?.version ?? null];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.#stores) await store.close();
    await this.artifacts.close();
    await this.#server.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

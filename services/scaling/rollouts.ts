/**
 * Brings functions to what their groups' documents say: activates or drops staged versions, takes steps again that were cut
 * off, and notes what became of replicas. Every buffer process does it. Each step is one atomic change that only the first
 * one makes, and what is wanted lies in the documents alone, so that a restart in the middle loses nothing.
 */
import type { ReplicaReport } from '../../shared/domain/function.ts';
import { functionNameOf, groupNameOf } from '../../shared/domain/model.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { RepeatedWork } from '../../shared/runtime/repeated-work.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { Unwatch } from '../../shared/store/ports/queue.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { Catalogue } from '../registry/catalogue.ts';
import type { Engines } from '../registry/engines.ts';
import type { Models } from '../registry/models.ts';
import { Claims } from './claims.ts';
import { type Group, GroupRecords, type Release, withEvent } from './group-records.ts';
import { forgetGroup, keepGroup } from './group-removal.ts';
import { groupSpec } from './group-spec.ts';
import { type GroupSight, servingState } from './group-state.ts';
import { nextStep, type Step } from './next-step.ts';
import { taken } from './placement.ts';

/** Groups with an update under way are looked at so often, all others more seldom. */
const LOOK_MS = 1000;
const REVIEW_MS = 10_000;

export type RolloutsOptions = {
  readonly store: Store;
  readonly models: Models;
  readonly engines: Engines;
  readonly log: Log;
  readonly wall: () => number;
};

export class Rollouts implements Service {
  readonly #options: RolloutsOptions;
  readonly #records: GroupRecords;
  readonly #claims: Claims;
  /** A function has many versions in its life: of what nothing changes it is read once. */
  readonly #catalogue: Catalogue;
  /** To be looked at each second. */
  readonly #underWay = new Set<string>();
  readonly #looks: RepeatedWork;
  #unwatch: Unwatch | null = null;
  #isStarted = false;
  #reviewedAt = Number.NEGATIVE_INFINITY;

  constructor(options: RolloutsOptions) {
    this.#options = options;
    this.#records = new GroupRecords(options.store.documents);
    this.#claims = new Claims(options.models, options.engines);
    this.#catalogue = new Catalogue(options.store, options.log);
    this.#looks = new RepeatedWork({
      everyMs: LOOK_MS,
      work: () => this.#round(),
      onError: (err) => options.log.error({ err }, 'rollouts: a look failed; trying again'),
    });
  }

  async start(): Promise<void> {
    if (this.#isStarted || this.#looks.isStopped) return;
    this.#isStarted = true;
    this.#unwatch = this.#options.store.queue.watch({ kind: 'functions' }, ({ name }) => {
      const group = groupNameOf(name);
      if (group !== null) this.#underWay.add(group);
    });
    await this.#catalogue.start();
    await this.#looks.start();
  }

  async stop(): Promise<void> {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#catalogue.stop();
    await this.#looks.stop();
  }

  async #round(): Promise<void> {
    const now = this.#options.wall();
    if (now - this.#reviewedAt >= REVIEW_MS) {
      this.#reviewedAt = now;
      await this.#review(now);
    }
    for (const name of [...this.#underWay]) {
      if (this.#looks.isStopped) return;
      const isUnderWay = await this.look(name).catch((error: unknown) => {
        this.#options.log.error({ err: error, group: name }, 'rollouts: a group could not be brought on');
        return true;
      });
      if (!isUnderWay) this.#underWay.delete(name);
    }
  }

  /** All groups at a glance; what is to be done is decided by a closer look. */
  async #review(now: number): Promise<void> {
    const groups = await this.#records.all();
    const names = new Set(groups.map(({ name }) => name));
    for (const { name } of this.#catalogue.all()) {
      const group = groupNameOf(name);
      if (group !== null && !names.has(group)) this.#underWay.add(group);
    }
    for (const group of groups) {
      if (this.#looks.isStopped) return;
      const name = functionNameOf(group.name);
      const record = this.#catalogue.known(name);
      const reports = await this.#options.store.registry.reports({ now, name });
      const sight = { group, record, reports, now };
      if (group.next !== null || nextStep(sight).do !== 'nothing') this.#underWay.add(group.name);
      else await this.#notice(sight);
    }
  }

  /**
   * One step of one group; says whether it is to be looked at again soon.
   * The function is read before the document: what is seen of it was then wanted by the document, or by one before it.
   */
  async look(name: string): Promise<boolean> {
    const { registry } = this.#options.store;
    const functionName = functionNameOf(name);
    const now = this.#options.wall();
    const record = await registry.function(functionName);
    const reports: readonly ReplicaReport[] = await registry.reports({ now, name: functionName });
    const group = await this.#records.find(name);
    if (group === undefined) {
      // A deployment that a removal passed: nobody can call what has no document, nor remove it.
      const isStray =
        record !== undefined && record.current.spec.model != null && now - record.updatedAt > REVIEW_MS;
      if (isStray) await registry.remove(functionName).catch(() => false);
      return false;
    }
    const sight = { group, record, reports, now };
    const step = nextStep(sight);
    await this.#take(step, sight);
    if (step.do === 'nothing' && group.next === null) await this.#notice(sight);
    return group.next !== null || group.leavingAt !== null || step.do !== 'nothing';
  }

  async #take(step: Step, sight: GroupSight): Promise<void> {
    const { group, now } = sight;
    const { registry } = this.#options.store;
    const name = functionNameOf(group.name);
    switch (step.do) {
      case 'nothing':
        return;
      case 'deploy':
        return this.#deploy(group, step.release, step.isStaged, now);
      case 'scale':
        await registry.update({ now, name, update: { scaling: group.scaling } });
        return;
      case 'activate':
        return this.#activate(group, step.release, now);
      case 'finish':
        return this.#finish(group, step.release, now);
      case 'drop':
        return this.#drop(group, step.release, step.text, now);
      case 'unstage':
        await registry.settleStaged({ now, name, digest: step.digest, end: 'drop' });
        return;
      case 'stay':
        await keepGroup(this.#records, group.name, group.leavingAt);
        return;
      case 'forget':
        // The removal was cut off.
        return forgetGroup(
          { records: this.#records, claims: this.#claims, documents: this.#options.store.documents },
          group.name,
        );
    }
  }

  async #deploy(group: Group, release: Release, isStaged: boolean, now: number): Promise<void> {
    const found = await this.#claims.read(release).catch(async (error: unknown) => {
      // Its claims kept them from being deleted; a store that lost one can start no replica of it.
      if (isStaged)
        await this.#drop(group, release, `what it runs is not there: ${(error as Error).message}`, now);
      throw error;
    });
    const spec = groupSpec(group.name, found, release.deployment);
    await this.#options.store.registry.deploy({ now, spec, isStaged, scaling: group.scaling });
  }

  /** The document says first that it is decided, so that a deployment that comes now goes on from the new version. */
  async #activate(group: Group, release: Release, now: number): Promise<void> {
    const isDecided = await this.#records.change(group.name, (found) => {
      if (found?.next?.token !== release.token) return { answer: false };
      return { write: { ...found, next: { ...found.next, isTaking: true } }, answer: true };
    });
    if (!isDecided) return;
    const name = functionNameOf(group.name);
    await this.#options.store.registry.settleStaged({ now, name, digest: release.digest, end: 'activate' });
    const after = await this.#options.store.registry.function(name);
    if (after?.current.digest === release.digest) await this.#finish(group, release, now);
  }

  async #finish(group: Group, release: Release, now: number): Promise<void> {
    const freed = await this.#records.change<readonly Release[]>(group.name, (found) => {
      if (found?.next?.token !== release.token) return { answer: [] };
      const { group: write, freed: answer } = taken(found, now);
      return { write, answer };
    });
    for (const one of freed) await this.#claims.free(one);
    if (freed.length > 0)
      this.#options.log.info({ group: group.name, version: release.version }, 'a group was updated');
  }

  async #drop(group: Group, release: Release, text: string, now: number): Promise<void> {
    const isFirst = await this.#records.change(group.name, (found) => {
      if (found?.next?.token !== release.token || found.next.isTaking === true) return { answer: false };
      const { version } = release;
      const write = { ...found, next: null, failure: { version, at: now, reason: text } };
      return {
        write: withEvent(write, now, 'rolled_back', `version ${version} was dropped: ${text}`),
        answer: true,
      };
    });
    if (!isFirst) return;
    const name = functionNameOf(group.name);
    await this.#options.store.registry.settleStaged({ now, name, digest: release.digest, end: 'drop' });
    await this.#claims.free(release);
    this.#options.log.warn(
      { group: group.name, version: release.version, reason: text },
      'an update was rolled back',
    );
  }

  /** Notes what became of the replicas since it was looked at last. */
  async #notice(sight: GroupSight): Promise<void> {
    const { state, reason, ready } = servingState(sight);
    // What only starts will be something soon.
    if (state === 'starting') return;
    const { seen } = sight.group;
    if (seen?.state === state && seen.ready === ready) return;
    await this.#records.change(sight.group.name, (group) => {
      if (group === undefined || (group.seen?.state === state && group.seen.ready === ready))
        return { answer: null };
      const isSame = group.seen?.state === state;
      const write = { ...group, seen: { state, ready } };
      const text = isSame ? `${ready} ready, before that ${group.seen.ready}` : (reason ?? `${ready} ready`);
      return { write: withEvent(write, sight.now, isSame ? 'scaled' : state, text), answer: null };
    });
  }
}

/** What the scaling group routes do. Each writes the group's document first, then brings the function to it. */
import { randomUUID } from 'node:crypto';
import type { FunctionRecord, FunctionSpec } from '../../shared/domain/function.ts';
import { functionNameOf, groupNameOf } from '../../shared/domain/model.ts';
import type { Scaling } from '../../shared/domain/scaling.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { digestOf } from '../../shared/store/spec-digest.ts';
import type { ScalingGroupJson } from '../../shared/wire/model-api.ts';
import { refusedAs } from '../../shared/wire/option-bag.ts';
import { compileDeployment, compileGroupName, compileGroupPatch } from '../../shared/wire/scaling-groups.ts';
import { isContained, updatedBatching } from '../../shared/wire/spec.ts';
import type { Engines } from '../registry/engines.ts';
import type { Models } from '../registry/models.ts';
import { Claims, type Wanted } from './claims.ts';
import { releasedEngine } from './engine-group-spec.ts';
import { type Group, GroupRecords, groupNotFound, type Release, withEvent } from './group-records.ts';
import { forgetGroup, keepGroup } from './group-removal.ts';
import { groupSpec } from './group-spec.ts';
import { presentGroup } from './group-state.ts';
import { type Aftermath, type Placement, placed, scalingText } from './placement.ts';

/** Calls that come in while others are cancelled are cancelled as well, so often. */
const PURGES_MAX = 10;

export type GroupsOptions = {
  readonly store: Store;
  readonly models: Models;
  readonly engines: Engines;
  /** Returns when every thread has read the function again. */
  readonly changed: (functionName: string) => Promise<void>;
  /** The function as it is known here, for views: lists show many. */
  readonly known: (functionName: string) => FunctionRecord | undefined;
};

/** What a rollback finds gone. */
const deletedMeanwhile = (
  error: unknown,
  name: string,
  { model, version, engine }: Release,
): SluiceError | null => {
  const code = error instanceof SluiceError ? error.code : null;
  if (code !== 'model_not_found' && code !== 'engine_not_found') return null;
  const gone =
    code === 'model_not_found'
      ? `version ${version} of ${model}`
      : `version ${engine?.version} of the engine ${engine?.project}/${engine?.name}`;
  return new SluiceError('no_earlier_version', `${name} ran ${gone} before, which was deleted.`);
};

type Claimed = { readonly release: Release; readonly spec: FunctionSpec };
export class Groups {
  readonly #store: Store;
  readonly #claims: Claims;
  readonly #changed: (functionName: string) => Promise<void>;
  readonly #known: GroupsOptions['known'];
  readonly #records: GroupRecords;

  constructor({ store, models, engines, changed, known }: GroupsOptions) {
    this.#store = store;
    this.#claims = new Claims(models, engines);
    this.#changed = changed;
    this.#known = known;
    this.#records = new GroupRecords(store.documents);
  }

  /** By name, those after `after`. */
  async list(limit: number, after: string | null): Promise<readonly ScalingGroupJson[]> {
    return Promise.all((await this.#records.page(limit, after)).map((group) => this.#view(group)));
  }

  /** @throws SluiceError `scaling_group_not_found` */
  async show(name: string): Promise<ScalingGroupJson> {
    return this.#view(await this.#records.read(name));
  }

  async #view(group: Group): Promise<ScalingGroupJson> {
    const { registry } = this.#store;
    const name = functionNameOf(group.name);
    const now = Date.now();
    const reports = await registry.reports({ now, name });
    const record = this.#known(name) ?? (await registry.function(name));
    return presentGroup({ group, record, reports, now });
  }

  /** @throws SluiceError `invalid_scaling_group`, `model_not_found` */
  async deploy(
    group: string,
    body: unknown,
    now: number,
  ): Promise<{ readonly isNew: boolean; readonly view: ScalingGroupJson }> {
    const name = compileGroupName(group);
    const { deployment, scaling } = compileDeployment(body);
    await this.#records.checkRoom(name);
    const wanted = { deployment, version: deployment.requested, engineVersion: null };
    const claimed = await this.#claim(name, wanted, now);
    const aftermath = await this.#placed(name, claimed, (group) =>
      placed(group, name, claimed.release, scaling, now),
    );
    await this.#bring(claimed.spec, scaling, aftermath, now);
    return { isNew: aftermath.isNew, view: await this.show(name) };
  }

  /** Claims the versions before anything says that the group runs them, and makes its function. */
  async #claim(name: string, wanted: Wanted, now: number): Promise<Claimed> {
    const { deployment } = wanted;
    const token = randomUUID();
    const found = await this.#claims.take(wanted, name, token, now);
    const { version, engine } = found;
    try {
      const spec = groupSpec(name, found, deployment);
      const release: Release = {
        model: version.model,
        version: version.version,
        deployment,
        ...(engine === null ? {} : { engine: releasedEngine(engine, deployment) }),
        backend: spec.backend ?? 'process',
        inputs: version.inputs,
        outputs: version.outputs,
        batching: spec.batching,
        digest: digestOf(spec),
        token,
        since: now,
      };
      return { release, spec };
    } catch (error) {
      await this.#claims.free({ model: version.model, token, engine });
      throw error;
    }
  }

  /**
   * Gives the claim back when the document does not come to name it. What was decided to serve serves before that: its claim takes
   * the place of the one before, whose version may be deleted then.
   */
  async #placed(
    name: string,
    { release }: Claimed,
    place: (group: Group | undefined) => Placement,
  ): Promise<Aftermath> {
    try {
      for (let activated: Release | null = null; ; ) {
        const answer = await this.#records.change<Aftermath | { readonly taking: Release }>(name, (group) => {
          const next = group?.next ?? null;
          if (next?.isTaking === true && next.token !== activated?.token) return { answer: { taking: next } };
          const { write, aftermath } = place(group);
          return { write, answer: aftermath };
        });
        if (!('taking' in answer)) return answer;
        activated = answer.taking;
        await this.#settleStaged(functionNameOf(name), activated, 'activate', release.since);
      }
    } catch (error) {
      await this.#claims.free(release);
      throw error;
    }
  }

  async #bring(
    spec: FunctionSpec,
    scaling: Scaling,
    { freed, dropped }: Aftermath,
    now: number,
  ): Promise<void> {
    await this.#store.registry.deploy({ now, spec, isStaged: true, scaling });
    if (dropped !== null) await this.#settleStaged(spec.name, dropped, 'drop', now);
    await this.#changed(spec.name);
    for (const release of freed) await this.#claims.free(release);
  }

  async #settleStaged(
    name: string,
    { digest }: Release,
    end: 'activate' | 'drop',
    now: number,
  ): Promise<void> {
    await this.#store.registry.settleStaged({ now, name, digest, end });
  }

  /** Changes the scaling, and the limits of the version that serves; no replica starts again. */
  async update(name: string, body: unknown, now: number): Promise<ScalingGroupJson> {
    const patch = compileGroupPatch(body);
    const { registry } = this.#store;
    const functionName = functionNameOf(name);
    await this.#records.read(name);
    const spec = (await registry.function(functionName))?.current.spec;
    if (patch.limits !== null && spec === undefined)
      throw new SluiceError('changed_meanwhile', `The function of ${name} is not there yet; try again.`);
    const batching =
      patch.limits === null
        ? null
        : refusedAs('invalid_scaling_group', () =>
            updatedBatching(spec!.batching, patch.limits, isContained(spec!)),
          );
    const scaling = await this.#records.changeFound(name, (group) => {
      const next = patch.scaling === null ? group.scaling : patch.scaling(group.scaling);
      const text = [
        scalingText(group.scaling, next),
        ...(batching === null ? [] : ['batching limits changed']),
      ];
      return { write: withEvent({ ...group, scaling: next }, now, 'scaled', text.join('; ')), answer: next };
    });
    await registry.update({
      now,
      name: functionName,
      update: { scaling, ...(batching === null ? {} : { batching }) },
    });
    await this.#changed(functionName);
    return this.show(name);
  }

  /** Gives an update up that is under way, or goes to what ran before. @throws SluiceError `no_earlier_version` */
  async rollback(name: string, now: number): Promise<ScalingGroupJson> {
    const group = await this.#records.read(name);
    if (group.next !== null && group.next.isTaking !== true) {
      await this.#giveUp(name, group.next, now);
      return this.show(name);
    }
    const target = group.next === null ? group.before : group.current;
    if (target === null)
      throw new SluiceError(
        'no_earlier_version',
        `${name} has run nothing but version ${group.current.version} of ${group.current.model}.`,
      );
    const wanted = {
      deployment: target.deployment,
      version: target.version,
      engineVersion: target.engine?.version ?? null,
    };
    const claimed = await this.#claim(name, wanted, now).catch((error: unknown) => {
      throw deletedMeanwhile(error, name, target) ?? error;
    });
    const aftermath = await this.#placed(name, claimed, (found) => {
      if (found?.current.token !== group.current.token || found.next?.token !== group.next?.token)
        throw new SluiceError('changed_meanwhile', `The scaling group ${name} was changed meanwhile.`);
      return placed(found, name, claimed.release, found.scaling, now);
    });
    await this.#bring(claimed.spec, group.scaling, aftermath, now);
    return this.show(name);
  }

  async #giveUp(name: string, release: Release, now: number): Promise<void> {
    const isGivenUp = await this.#records.changeFound(name, (group) => {
      if (group.next?.token !== release.token || group.next.isTaking === true) return { answer: false };
      const text = `the update to version ${release.version} was given up`;
      return { write: withEvent({ ...group, next: null }, now, 'rolled_back', text), answer: true };
    });
    if (!isGivenUp) throw new SluiceError('changed_meanwhile', `The update of ${name} ended meanwhile.`);
    await this.#settleStaged(functionNameOf(name), release, 'drop', now);
    await this.#changed(functionNameOf(name));
    await this.#claims.free(release);
  }

  /**
   * The function goes first, then the document, then the claims: until the last step the model version cannot be deleted.
   * @param isForced cancels unfinished calls
   * @throws SluiceError `function_busy`
   */
  async remove(name: string, isForced: boolean, now: number): Promise<void> {
    const functionName = functionNameOf(name);
    const began = performance.now();
    let leavingAt = now;
    let token: string | null = null;
    const leave = async (): Promise<void> => {
      leavingAt = now + Math.round(performance.now() - began);
      token = await this.#records.changeFound(name, (group) => {
        if (token !== null && group.current.token !== token)
          throw new SluiceError('changed_meanwhile', `The scaling group ${name} was deployed meanwhile.`);
        return { write: { ...group, leavingAt }, answer: group.current.token };
      });
    };
    await leave();
    try {
      await this.#removeFunction(functionName, isForced, now, leave);
    } catch (error) {
      // Another has just removed it: that one does the last steps, or the rounds of `rollouts.ts` do.
      const isGone = error instanceof SluiceError && error.code === 'function_not_found';
      if (isGone) throw groupNotFound(name);
      await keepGroup(this.#records, name, leavingAt);
      throw error;
    }
    await this.#changed(functionName);
    const { documents } = this.#store;
    await forgetGroup({ records: this.#records, claims: this.#claims, documents }, name);
  }

  /** @param leave says again that the group leaves: cancelling many calls may take longer than a removal is believed to */
  async #removeFunction(
    functionName: string,
    isForced: boolean,
    now: number,
    leave: () => Promise<void>,
  ): Promise<void> {
    const { registry, queue } = this.#store;
    for (let round = 1; ; round += 1) {
      if (isForced && (await registry.function(functionName)) !== undefined) {
        await queue.cancel({ now, functionName });
        await leave();
      }
      try {
        await registry.remove(functionName);
        return;
      } catch (error) {
        const isBusy = error instanceof SluiceError && error.code === 'function_busy';
        if (!isBusy || !isForced || round === PURGES_MAX) throw error;
      }
    }
  }

  /** Something that a person did to the group's function elsewhere. */
  async note(functionName: string, kind: 'paused' | 'resumed'): Promise<void> {
    const name = groupNameOf(functionName);
    if (name === null) return;
    const text = kind === 'paused' ? 'calls wait until it is resumed' : 'waiting calls run again';
    await this.#records.change(name, (group) =>
      group === undefined
        ? { answer: null }
        : { write: withEvent(group, Date.now(), kind, text), answer: null },
    );
  }
}

/** Models as OpenAI's clients read them: functions that can be called, beside the registry's members on the same routes. */
import type { FunctionRecord } from '../../../shared/domain/function.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { openaiError } from '../../../shared/wire/openai/openai-error.ts';
import type { Room } from '../room.ts';

const OWNER = 'sluice';

export type OpenaiModel = {
  readonly id: string;
  readonly object: 'model';
  readonly created: number;
  readonly owned_by: string;
  readonly task: 'embedding' | 'completion' | null;
};

const seconds = (at: number): number => Math.floor(at / 1000);

const openaiModel = ({ name, createdAt, current }: FunctionRecord): OpenaiModel => ({
  id: name,
  object: 'model',
  created: seconds(createdAt),
  owned_by: OWNER,
  task: current.spec.task ?? null,
});

/** By name. Another thread's deploy of a moment ago may be missing, as in every list. */
export const openaiModels = ({ catalogue }: Room): readonly OpenaiModel[] =>
  catalogue
    .all()
    .map(openaiModel)
    .sort((a, b) => (a.id < b.id ? -1 : 1));

/**
 * A registry's model, a function, or both in one: the registry's name wins where its model is not the function.
 * @throws SluiceError `model_not_found`, with OpenAI's `error` beside the problem's members
 */
export const eitherModel = async (room: Room, name: string): Promise<object> => {
  const { catalogue, models } = room;
  const [registered, record] = await Promise.all([
    models.show(name).catch((error: unknown) => {
      if (error instanceof SluiceError && error.code === 'model_not_found') return error;
      throw error;
    }),
    catalogue.known(name) ?? catalogue.refresh(name),
  ]);
  const callable = record === undefined ? null : openaiModel(record);
  if (!(registered instanceof SluiceError)) {
    const created = seconds(Date.parse(registered.created_at));
    return { id: name, object: 'model', created, owned_by: OWNER, ...callable, ...registered };
  }
  if (callable !== null) return callable;
  throw new SluiceError('model_not_found', registered.message, {
    ...registered.extra,
    ...openaiError(registered),
  });
};

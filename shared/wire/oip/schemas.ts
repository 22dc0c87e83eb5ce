/** JSON Schemas of the Open Inference Protocol over HTTP, for /openapi.json. Tensors are checked where they are read. */
import { Type } from 'typebox';

const parameters = Type.Optional(Type.Record(Type.String(), Type.Unknown()));
const shape = Type.Array(Type.Integer());
const open = { additionalProperties: true } as const;

export const oipError = Type.Object(
  { error: Type.String() },
  { description: 'What went wrong, and its code.' },
);
export const serverLive = Type.Object({ live: Type.Boolean() });
export const serverReady = Type.Object({ ready: Type.Boolean() });
export const modelReady = Type.Object({ name: Type.String(), ready: Type.Boolean() });
export const serverMetadata = Type.Object({
  name: Type.String(),
  version: Type.String(),
  extensions: Type.Array(Type.String()),
});
const tensorMetadata = Type.Object({ name: Type.String(), datatype: Type.String(), shape });
export const modelMetadata = Type.Object({
  name: Type.String(),
  versions: Type.Array(Type.String()),
  platform: Type.String(),
  inputs: Type.Array(tensorMetadata),
  outputs: Type.Array(tensorMetadata),
});
export const modelIndex = Type.Array(
  Type.Object({
    name: Type.String(),
    version: Type.String(),
    state: Type.Enum(['READY', 'UNAVAILABLE']),
    reason: Type.String(),
  }),
);
export const indexQuestion = Type.Object({ ready: Type.Optional(Type.Boolean()) }, open);
export const inferRequest = Type.Object(
  {
    id: Type.Optional(Type.String()),
    parameters,
    inputs: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          shape,
          datatype: Type.String(),
          parameters,
          data: Type.Optional(Type.Array(Type.Unknown())),
        },
        open,
      ),
      { minItems: 1 },
    ),
    outputs: Type.Optional(Type.Array(Type.Object({ name: Type.String(), parameters }, open))),
  },
  open,
);
export const inferResponse = Type.Object({
  model_name: Type.String(),
  model_version: Type.String(),
  id: Type.Optional(Type.String()),
  outputs: Type.Array(
    Type.Object({
      name: Type.String(),
      shape,
      datatype: Type.String(),
      parameters,
      data: Type.Optional(Type.Array(Type.Unknown())),
    }),
  ),
});
export const modelParams = Type.Object({ name: Type.String() });
export const versionParams = Type.Object({ name: Type.String(), version: Type.String() });

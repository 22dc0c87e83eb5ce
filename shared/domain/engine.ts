/** The words of inference engines: HTTP servers that serve models, and what a function that runs one carries. */

export type EngineProtocol = 'oip-v2' | 'json';

/** Kubernetes' meanings; times in milliseconds. */
export type ReadinessProbe = {
  readonly path: string;
  /** null: the engine's port. */
  readonly port: number | null;
  readonly initialDelayMs: number;
  readonly timeoutMs: number;
  readonly periodMs: number;
  readonly successThreshold: number;
  readonly failureThreshold: number;
};

/** What of an engine version a function's spec carries (docs/decisions/0015). */
export type EngineSpec = {
  readonly project: string;
  readonly name: string;
  readonly version: string;
  readonly protocol: EngineProtocol;
  /** Entrypoint and command; null: those of the image. */
  readonly command: readonly string[] | null;
  /** In place of the image's own arguments, where its entrypoint stays: only with `command` null. Left out: its own. */
  readonly args?: readonly string[];
  /** The image of the mode that the group's resources ask for; null for a process. */
  readonly image: string | null;
  readonly port: number;
  /** What ready and infer lie below, with the model id in its place; '' or `/v2/models/house`. */
  readonly basePath: string;
  readonly probe: ReadinessProbe;
  readonly modelId: string;
  readonly taskType: string | null;
  /** What the model calls its only output. Left out: it has several, whose names the output's type has, or none. */
  readonly output?: string;
  /** The engine's variables and the predictor's, cast; those that we set win. */
  readonly env: Readonly<Record<string, string>>;
};

export const PREDICTOR_TYPES = ['string', 'int', 'bool', 'float'] as const;
export type PredictorType = (typeof PREDICTOR_TYPES)[number];
export type PredictorValue = string | number | boolean;

/** A variable that whoever deploys a model may set. */
export type PredictorVariable = {
  readonly name: string;
  readonly type: PredictorType;
  /** null: not set unless it is given. */
  readonly defaultValue: PredictorValue | null;
  readonly displayText: string | null;
};

/** What a version of an engine is, immutable. */
export type EngineConfiguration = {
  readonly protocol: EngineProtocol;
  /** Where one is null and the other is not, the engine does not run in that mode; both null: it is a command. */
  readonly images: { readonly cpu: string | null; readonly gpu: string | null };
  readonly supportsMultiGpu: boolean;
  readonly env: Readonly<Record<string, string>>;
  /** null: that of the image. */
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[] | null;
  readonly port: number;
  /** May hold `{model_id}`. */
  readonly basePath: string;
  /** Its path may hold `{model_id}`; null: `/ready` below the base path. */
  readonly probe: Omit<ReadinessProbe, 'path'> & { readonly path: string | null };
  readonly predictorVariables: readonly PredictorVariable[];
  /** Other names than those of `predictorVariables` are refused. */
  readonly isPredictorEnvEnforced: boolean;
};

export type EngineVersion = EngineConfiguration & {
  readonly project: string;
  readonly name: string;
  /** The caller's own word. */
  readonly version: string;
  readonly createdAt: number;
};

export type Engine = {
  readonly project: string;
  readonly name: string;
  /** null: it was deleted, and no other one was named since. */
  readonly defaultVersion: string | null;
  /** As they came. */
  readonly versions: readonly string[];
  readonly createdAt: number;
  readonly updatedAt: number;
};

/** Which engine a deployment wants. */
export type EngineSelector = {
  /** Taken as it comes: a server is one organisation's. */
  readonly organisation: string | null;
  readonly project: string;
  readonly name: string;
  /** null: the default one. */
  readonly version: string | null;
};

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
  /** The image of the mode that the group's resources ask for; null for a process. */
  readonly image: string | null;
  readonly port: number;
  /** What ready and infer lie below, with the model id in its place; '' or `/v2/models/house`. */
  readonly basePath: string;
  readonly probe: ReadinessProbe;
  readonly modelId: string;
  readonly taskType: string | null;
  /** The engine's variables and the predictor's, cast; those that we set win. */
  readonly env: Readonly<Record<string, string>>;
};

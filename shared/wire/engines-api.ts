/** The JSON shapes of inference engines (docs/API.md), as clients send and read them. */

export type ReadinessProbeJson = {
  /** From the container's root; null: `/ready` below the base URL. */
  readonly path: string | null;
  /** null: the engine's port. */
  readonly port: number | null;
  readonly initial_delay_seconds: number;
  readonly timeout_seconds: number;
  readonly period_seconds: number;
  readonly success_threshold: number;
  readonly failure_threshold: number;
};

export type PredictorTypeName = 'string' | 'int' | 'bool' | 'float';

export type PredictorVariableJson = {
  readonly name: string;
  readonly type: PredictorTypeName;
  readonly default_value: string | number | boolean | null;
  readonly display_text: string | null;
};

/** Everything but `project`, `name`, `version` and an image or a command may be left out, or null. */
export type EngineRequestJson = {
  readonly project: string;
  readonly name: string;
  readonly version: string;
  readonly container_image_cpu?: string | null;
  readonly container_image_gpu?: string | null;
  readonly is_default?: boolean | null;
  readonly supports_multi_gpu?: boolean | null;
  readonly env?: Readonly<Record<string, string>> | null;
  readonly entrypoint?: readonly string[] | null;
  readonly command?: readonly string[] | null;
  readonly port?: number | null;
  readonly readiness_probe?:
    | { readonly [K in keyof ReadinessProbeJson]?: ReadinessProbeJson[K] | null }
    | null;
  readonly container_root_relative_base_url?: string | null;
  readonly predictor_env_schema?:
    | readonly {
        readonly name: string;
        readonly type?: PredictorTypeName | null;
        readonly default_value?: string | number | boolean | null;
        readonly display_text?: string | null;
      }[]
    | null;
  readonly enforce_predictor_env_schema?: boolean | null;
  readonly inference_protocol?: 'oip-v2' | 'chariot-v2-kserve' | 'none' | null;
};

export type EngineVersionJson = {
  readonly project: string;
  readonly name: string;
  readonly version: string;
  readonly is_default: boolean;
  readonly container_image_cpu: string | null;
  readonly container_image_gpu: string | null;
  readonly supports_multi_gpu: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[] | null;
  readonly port: number;
  readonly readiness_probe: ReadinessProbeJson;
  readonly container_root_relative_base_url: string;
  readonly predictor_env_schema: readonly PredictorVariableJson[];
  readonly enforce_predictor_env_schema: boolean;
  /** null: plain JSON. */
  readonly inference_protocol: 'oip-v2' | null;
  /** Scaling groups that run it, or are about to. */
  readonly used_by: readonly string[];
  readonly created_at: string;
};

export type EngineJson = {
  readonly project: string;
  readonly name: string;
  readonly default_version: string | null;
  /** As they came. */
  readonly versions: readonly string[];
  readonly created_at: string;
  readonly updated_at: string;
};

/** Of a deployment. `org_name` is taken as it comes; `version` null: the default one. */
export type EngineSelectorJson = {
  readonly org_name?: string | null;
  readonly project_name: string;
  readonly engine_name: string;
  readonly version?: string | null;
};

/** The client of Sluice: submit rows, hold a handle, read results in row order; declare functions in TypeScript. */
export type { CallStatus } from '../shared/domain/call.ts';
export type { FieldJson, TypeJson } from '../shared/domain/function.ts';
export type {
  CallJson,
  FunctionJson,
  KeyJson,
  KeyScope,
  LogLineJson,
  RowErrorJson,
  ServerJson,
  SpecJson,
} from '../shared/wire/api.ts';
export type {
  EngineJson,
  EngineRequestJson,
  EngineSelectorJson,
  EngineVersionJson,
} from '../shared/wire/engines-api.ts';
export type {
  ColumnDriftJson,
  DriftJson,
  DriftRequestJson,
  InferenceFileJson,
} from '../shared/wire/inference-api.ts';
export type { InferenceStoreJson } from '../shared/wire/inference-store.ts';
export type {
  ComparisonJson,
  DeploymentJson,
  GroupPatchJson,
  ModelFileJson,
  ModelImportJson,
  ModelJson,
  ModelVersionJson,
  RegistrationJson,
  ScalingGroupJson,
  ScalingJson,
} from '../shared/wire/model-api.ts';
export type { ApacheTable } from './apache-table.ts';
export {
  type Artifact,
  Artifacts,
  type ReadableFile,
  type TransferOptions,
  type UploadState,
  type WritableFile,
} from './artifacts.ts';
export { type CallEnd, CallHandle, type CallResult, type WaitOptions } from './call-handle.ts';
export type { ChunkedCallOptions, ChunkedResult, ChunkProgress } from './chunked-call.ts';
export { type BatchingLimits, type ClientOptions, Sluice } from './client.ts';
export { Engines } from './engines.ts';
export {
  CallFailedError,
  ChunkFailedError,
  ConnectionError,
  DeploymentError,
  SluiceError,
  TimeoutError,
} from './errors.ts';
export {
  type ColumnsHandler,
  defineFunction,
  type FunctionDefinition,
  type FunctionOptions,
  type HandlerContext,
  isRowError,
  type RetryPolicy,
  RowError,
  type RowHandler,
} from './function.ts';
export type { CallInput } from './input.ts';
export { Models, type VersionName } from './models.ts';
export { type CallOptions, type InputOf, RemoteFunction } from './remote-function.ts';
export { type InferenceFilesOptions, type ReadyOptions, ScalingGroups } from './scaling-groups.ts';
export { type Type, t, type ValueOf } from './type.ts';

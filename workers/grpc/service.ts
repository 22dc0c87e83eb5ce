/** The services that a handler image serves, loaded once from their definitions. */
import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const definitionOf = (file: string, service: string): ServiceDefinition => {
  const path = fileURLToPath(new URL(`../../shared/wire/proto/${file}`, import.meta.url));
  return loadSync(path, { keepCase: true, enums: String })[service] as ServiceDefinition;
};

export type CallFunctionRequest = { readonly name: string; readonly feather_stream: Uint8Array };
export type CallFunctionResponse = { readonly feather_stream?: Uint8Array };

export const REMOTE_CALL: ServiceDefinition = definitionOf(
  'remote-call.proto',
  'chalk.runtime.v1.RemoteCallService',
);
export const HEALTH: ServiceDefinition = definitionOf('health.proto', 'grpc.health.v1.Health');

/** An engine as plain as it can be, as its registration goes over HTTP; and a model that was imported for it. */
import type { EngineRequestJson } from '../../shared/wire/engines-api.ts';
import type { RegistrationJson } from '../../shared/wire/model-api.ts';

export const ENGINE: EngineRequestJson = {
  project: 'vision',
  name: 'onnx',
  version: '1',
  command: ['python3', 'server.py', '{port}'],
};

export const IMPORTED: RegistrationJson = { import: { project: 'vision' } };

export const SELECTOR = { project_name: 'vision', engine_name: 'onnx' };

/** A model as plain as it can be, as its registration and its deployment go over HTTP. */
import type { DeploymentJson, RegistrationJson } from '../../shared/wire/model-api.ts';

export const REGISTRATION: RegistrationJson = {
  inputs: [
    { name: 'sqft', type: 'float64', nullable: true },
    { name: 'rooms', type: 'float64', nullable: true },
  ],
  outputs: [{ name: 'price', type: 'float64', nullable: true }],
  handler: { file: 'model.py', attribute: 'Model' },
  source: [{ path: 'model.py', content: Buffer.from('class Model: pass\n').toString('base64') }],
};

export const DEPLOYMENT: DeploymentJson = { model: 'house' };

/** The server that a command talks to: --url and --api-key, else SLUICE_URL and SLUICE_API_KEY. */
import type { Command } from 'commander';
import type { Sluice } from '../sdk/index.ts';
import { clientEnvironment } from '../shared/config/environment.ts';

export type ConnectionOptions = { readonly url?: string; readonly apiKey?: string };

export const withConnection = (command: Command): Command =>
  command
    .option('--url <url>', 'server to talk to (default: $SLUICE_URL, else http://127.0.0.1:7700)')
    .option('--api-key <key>', 'API key (default: $SLUICE_API_KEY)');

export const connect = async (options: ConnectionOptions): Promise<Sluice> => {
  const { Sluice } = await import('../sdk/index.ts');
  const environment = clientEnvironment();
  return new Sluice({ url: options.url ?? environment.url, apiKey: options.apiKey ?? environment.apiKey });
};

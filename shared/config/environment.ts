/** The one file that reads the environment. */
import { isSettingName, SETTINGS, type SettingName, variableOf } from './settings.ts';

/** Texts of the settings that SLUICE_… variables give. An unknown SLUICE_ variable is named, since it is most often a typing error. */
export const settingsFromEnvironment = (
  env: Readonly<NodeJS.ProcessEnv> = process.env,
): { raw: Partial<Record<SettingName, string>>; unknown: string[] } => {
  const raw: Partial<Record<SettingName, string>> = {};
  const known = new Map((Object.keys(SETTINGS) as SettingName[]).map((name) => [variableOf(name), name]));
  const client = new Set(['SLUICE_URL', 'SLUICE_API_KEY', 'SLUICE_PYTHON']);
  const unknown: string[] = [];
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith('SLUICE_') || value === undefined) continue;
    const name = known.get(variable);
    if (name !== undefined && isSettingName(name)) raw[name] = value;
    else if (!client.has(variable)) unknown.push(variable);
  }
  return { raw, unknown };
};

/** Where clients find the server, and the interpreter that Python handlers and manifests default to. */
export const clientEnvironment = (
  env: Readonly<NodeJS.ProcessEnv> = process.env,
): { url: string; apiKey: string | null; python: string | null } => ({
  url: env.SLUICE_URL ?? 'http://127.0.0.1:7700',
  apiKey: env.SLUICE_API_KEY ?? null,
  python: env.SLUICE_PYTHON ?? null,
});

/** What opens the bucket of --s3-bucket; the AWS SDK reads them. */
const BUCKET_SECRETS = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'];

/** OpenTelemetry's variables that have a value. What the collector's address and its headers are, the exporter reads itself. */
export const telemetryEnvironment = (
  env: Readonly<NodeJS.ProcessEnv> = process.env,
): Readonly<Record<string, string>> => {
  const given: Record<string, string> = {};
  for (const [variable, value = ''] of Object.entries(env))
    if (variable.startsWith('OTEL_') && value.trim() !== '') given[variable] = value.trim();
  return given;
};

/** Our own variables, for children that inherit some (handlers) or all (pip) of them; none lets its reader into the store. */
export const ownEnvironment = (): Readonly<Record<string, string | undefined>> => {
  const secrets = new Set([variableOf('store'), 'SLUICE_API_KEY', ...BUCKET_SECRETS]);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !secrets.has(name)));
};

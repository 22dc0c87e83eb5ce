/** The variables of engines and predictors: which names are whose, and values cast by a schema. */
import {
  type EngineConfiguration,
  PREDICTOR_TYPES,
  type PredictorType,
  type PredictorValue,
  type PredictorVariable,
} from '../domain/engine.ts';
import { type Bag, bagOf, refuse } from './option-bag.ts';

/** Of the engine and of the predictor each: a function's engine takes a thousand. */
const VARIABLES_MAX = 500;
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,255}$/;
const NAME_RULE = 'letters, digits and _, not beginning with a digit, at most 256';
const TEXT_MAX = 65_536;
/** Of the engine and of the predictor each; Linux hands a process about 2 MiB, its command included. */
export const VARIABLES_BYTES_MAX = 128 * 1024;
const DISPLAY_MAX = 1000;

/** What a replica is told by its back end. */
const OURS = /^(SLUICE_.*|CHARIOT_.*|PORT|(CUDA|NVIDIA|HIP|ROCR)_VISIBLE_DEVICES)$/;
/**
 * What decides which code runs: loaders, search paths and start-up hooks. An engine's own version may set them, since it
 * names the command as well; whoever only deploys a model to it may not.
 */
const LOADING =
  /^(LD_.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|PATH|HOME|SHELL|BASH_ENV|ENV|IFS|PYTHON.*|NODE_(OPTIONS|PATH)|PERL5(LIB|OPT)|RUBY(LIB|OPT)|_?JAVA_(TOOL_)?OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH|KUBERNETES_.*)$/;

const reservedFor = (who: 'engine' | 'predictor'): ((name: string) => boolean) =>
  who === 'engine' ? (name) => OURS.test(name) : (name) => OURS.test(name) || LOADING.test(name);

const checkName = (name: unknown, where: string, who: 'engine' | 'predictor'): string => {
  if (typeof name !== 'string' || !NAME.test(name)) return refuse(where, name, NAME_RULE);
  if (!reservedFor(who)(name)) return name;
  return refuse(where, name, 'another name: this one is reserved');
};

const objectOf = (value: unknown, where: string, of: string): readonly (readonly [string, unknown])[] => {
  if (value === undefined || value === null) return [];
  if (typeof value !== 'object' || Array.isArray(value)) return refuse(where, value, `an object of ${of}`);
  const entries = Object.entries(value);
  if (entries.length <= VARIABLES_MAX) return entries;
  return refuse(where, `${entries.length} variables`, `at most ${VARIABLES_MAX}`);
};

const textOf = (value: unknown, where: string): string =>
  typeof value === 'string' && value.length <= TEXT_MAX && !value.includes('\0')
    ? value
    : refuse(where, value, `a string of at most ${TEXT_MAX} characters without NUL`);

const checkBytes = (variables: Readonly<Record<string, string>>, where: string): typeof variables => {
  const texts = Object.entries(variables);
  const bytes = texts.reduce((sum, [name, text]) => sum + name.length + Buffer.byteLength(text), 0);
  if (bytes <= VARIABLES_BYTES_MAX) return variables;
  return refuse(
    where,
    `${bytes} bytes`,
    `at most ${VARIABLES_BYTES_MAX} bytes in all; what is larger is a file`,
  );
};

/** The engine's own variables. */
export const engineVariablesOf = (value: unknown, where: string): Readonly<Record<string, string>> => {
  const texts = objectOf(value, where, 'strings').map(([name, text]) => {
    const at = `${where}.${name.slice(0, 256)}`;
    return [checkName(name, at, 'engine'), textOf(text, at)];
  });
  return checkBytes(Object.fromEntries(texts), where);
};

const WANTED: Readonly<Record<PredictorType, string>> = {
  string: `a string of at most ${TEXT_MAX} characters without NUL`,
  int: 'a whole number of at most 53 bits',
  float: 'a finite number',
  bool: 'true or false',
};

const numberOf = (value: unknown, pattern: RegExp): number => {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && pattern.test(value) ? Number(value) : Number.NaN;
};

const INT = /^[+-]?\d{1,16}$/;
const FLOAT = /^[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})(e[+-]?\d{1,3})?$/i;

const CASTS: Readonly<Record<PredictorType, (value: unknown) => PredictorValue | undefined>> = {
  string: (value) => {
    const text = typeof value === 'number' || typeof value === 'boolean' ? String(value) : value;
    return typeof text === 'string' && text.length <= TEXT_MAX && !text.includes('\0') ? text : undefined;
  },
  int: (value) => {
    const number = numberOf(value, INT);
    return Number.isSafeInteger(number) ? number + 0 : undefined;
  },
  float: (value) => {
    const number = numberOf(value, FLOAT);
    return Number.isFinite(number) ? number : undefined;
  },
  bool: (value) => {
    if (typeof value === 'boolean') return value;
    const text = typeof value === 'string' ? value.toLowerCase() : value;
    if (text === 'true' || text === '1' || text === 1) return true;
    return text === 'false' || text === '0' || text === 0 ? false : undefined;
  },
};

const castOf = (value: unknown, type: PredictorType, where: string): PredictorValue =>
  CASTS[type](value) ?? refuse(where, value, WANTED[type]);

const VARIABLE = ['name', 'type', 'default_value', 'display_text'] as const;

export const predictorSchemaOf = (bag: Bag, member: string): readonly PredictorVariable[] => {
  const names = new Set<string>();
  return bag.list(member, VARIABLES_MAX).map((value, i): PredictorVariable => {
    const where = `${member}[${i}]`;
    const one = bagOf(value, where, VARIABLE);
    const name = checkName(one.raw('name'), `${where}.name`, 'predictor');
    if (names.has(name)) refuse(`${where}.name`, name, 'a name that no other variable has');
    names.add(name);
    const type = one.choice('type', PREDICTOR_TYPES, 'string');
    const given = one.raw('default_value') ?? null;
    const display = one.raw('display_text') ?? null;
    return {
      name,
      type,
      defaultValue: given === null ? null : castOf(given, type, `${where}.default_value`),
      displayText: display === null ? null : one.text('display_text', 0, DISPLAY_MAX),
    };
  });
};

/** As they were asked for, before an engine's schema is looked at; null and left out are the same. */
export const predictorValuesOf = (value: unknown, where: string): Readonly<Record<string, PredictorValue>> =>
  Object.fromEntries(
    objectOf(value, where, 'strings, numbers, true and false')
      .filter(([, given]) => given !== null)
      .map(([name, given]) => {
        const at = `${where}.${name.slice(0, 256)}`;
        const isPlain = ['string', 'number', 'boolean'].includes(typeof given);
        if (!isPlain) refuse(at, given, 'a string, a number, true or false');
        return [checkName(name, at, 'predictor'), given as PredictorValue];
      }),
  );

/**
 * The predictor's variables as a process gets them: defaults, then what was asked for, each cast by its type.
 * @throws SluiceError `invalid_function` for a value that cannot be cast, and for a name that an enforced schema lacks
 */
export const castPredictorValues = (
  values: Readonly<Record<string, PredictorValue>>,
  { predictorVariables, isPredictorEnvEnforced }: EngineConfiguration,
  where: string,
): Readonly<Record<string, string>> => {
  const types = new Map(predictorVariables.map(({ name, type }) => [name, type]));
  const cast: [string, string][] = [];
  for (const { name, defaultValue } of predictorVariables)
    if (defaultValue !== null && !Object.hasOwn(values, name)) cast.push([name, String(defaultValue)]);
  for (const [name, value] of Object.entries(values)) {
    const type = types.get(name);
    if (type === undefined && isPredictorEnvEnforced) {
      const known = [...types.keys()].join(', ') || 'none';
      refuse(`${where}.${name}`, value, `variables of the engine's schema only: ${known.slice(0, 1000)}`);
    }
    cast.push([name, String(castOf(value, type ?? 'string', `${where}.${name}`))]);
  }
  return checkBytes(Object.fromEntries(cast.sort(([a], [b]) => (a < b ? -1 : 1))), where);
};

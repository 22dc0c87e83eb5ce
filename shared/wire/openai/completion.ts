/** POST /v1/completions and /v1/chat/completions: a request into rows, and texts into its answer. */
import type { FieldJson } from '../../domain/function.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { checkKnown, given, isObject, type Members, modelOf, refuse, userOf } from './request-members.ts';
import { type InputKind, inputKind, PARAMETERS } from './task-shape.ts';
import { estimatedTokens, type Usage } from './token-count.ts';

const PROMPTS_MAX = 2048;
const MESSAGES_MAX = 10_000;

export type Message = { readonly role: string; readonly content: string };
type Prompt = string | readonly number[] | readonly Message[];

export type CompletionRequest = {
  readonly model: string;
  readonly isChat: boolean;
  /** One a row. */
  readonly prompts: readonly Prompt[];
  readonly kind: InputKind;
  /** What was asked for besides: reaches inputs of the function by name. */
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly user: string | null;
};

/** Of both routes; what has only one meaning here is taken with that value, so that clients which always send it work. */
const SHARED = new Set([
  ...['model', 'user', 'stream', 'n', 'logit_bias', 'max_completion_tokens', 'store', 'metadata'],
  ...PARAMETERS,
]);
const KNOWN_TEXT = new Set([...SHARED, 'prompt', 'best_of', 'echo', 'suffix', 'logprobs']);
const KNOWN_CHAT = new Set([...SHARED, 'messages', 'logprobs', 'top_logprobs', 'response_format']);

/** Values that change nothing. */
const NEUTRAL: Readonly<Record<string, unknown>> = {
  ...{ n: 1, best_of: 1, echo: false, suffix: '', logprobs: false, top_logprobs: 0, store: false },
  ...{ temperature: 1, top_p: 1, presence_penalty: 0, frequency_penalty: 0 },
};
const REFUSED = [
  'n',
  'best_of',
  'echo',
  'suffix',
  'logprobs',
  'top_logprobs',
  'logit_bias',
  'store',
] as const;

const checkPlain = (members: Members): void => {
  const stream = given(members, 'stream');
  if (stream !== null && stream !== false)
    throw new SluiceError(
      'invalid_request',
      'stream is true; answers are not streamed here: leave it out, and read the whole answer.',
      { field: 'stream' },
    );
  for (const name of REFUSED) {
    const value = given(members, name);
    if (value !== null && value !== NEUTRAL[name])
      refuse(name, value, `none, or ${JSON.stringify(NEUTRAL[name] ?? null)}: nothing else is done here`);
  }
  const format = given(members, 'response_format');
  if (format !== null && !(isObject(format) && format.type === 'text'))
    refuse('response_format', format, '{"type": "text"}, or none');
};

const parametersOf = (members: Members): Readonly<Record<string, unknown>> => {
  const found: [string, unknown][] = [];
  for (const name of PARAMETERS) {
    const aliased = name === 'max_tokens' ? given(members, 'max_completion_tokens') : null;
    const value = aliased ?? given(members, name);
    if (value !== null) found.push([name, value]);
  }
  return Object.fromEntries(found);
};

const PROMPT = `a string, a list of token numbers, or a list of 1 to ${PROMPTS_MAX} of either`;
const isTokens = (value: unknown): boolean =>
  Array.isArray(value) && value.length > 0 && value.every((token) => Number.isSafeInteger(token));

const promptsOf = (prompt: unknown): Pick<CompletionRequest, 'prompts' | 'kind'> => {
  if (typeof prompt === 'string') return { prompts: [prompt], kind: 'text' };
  if (!Array.isArray(prompt) || prompt.length === 0) return refuse('prompt', prompt, PROMPT);
  if (isTokens(prompt)) return { prompts: [prompt], kind: 'tokens' };
  if (prompt.length > PROMPTS_MAX) return refuse('prompt', `a list of ${prompt.length}`, PROMPT);
  const kind = typeof prompt[0] === 'string' ? 'text' : 'tokens';
  const fits = kind === 'text' ? (one: unknown) => typeof one === 'string' : isTokens;
  const wrong = prompt.findIndex((one) => !fits(one));
  return wrong < 0 ? { prompts: prompt, kind } : refuse(`prompt[${wrong}]`, prompt[wrong], PROMPT);
};

/** A content may come in parts; here they are texts. */
const contentOf = (content: unknown, at: string): string => {
  if (typeof content === 'string') return content;
  const want = 'a string, or a list of {"type": "text", "text"}';
  if (!Array.isArray(content) || content.length === 0) return refuse(`${at}.content`, content, want);
  return content
    .map((part: unknown, i) =>
      isObject(part) && part.type === 'text' && typeof part.text === 'string'
        ? part.text
        : refuse(`${at}.content[${i}]`, part, '{"type": "text", "text"}: other parts are not taken'),
    )
    .join('');
};

const ROLES: readonly unknown[] = ['system', 'developer', 'user', 'assistant'];

const messagesOf = (messages: unknown): readonly Message[] => {
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > MESSAGES_MAX)
    return refuse('messages', messages, `a list of 1 to ${MESSAGES_MAX} {"role", "content"}`);
  return messages.map((message: unknown, i) => {
    const at = `messages[${i}]`;
    if (!isObject(message)) return refuse(at, message, '{"role", "content"}');
    if (!ROLES.includes(message.role)) refuse(`${at}.role`, message.role, `one of ${ROLES.join(', ')}`);
    const other = Object.keys(message).find(
      (name) => name !== 'role' && name !== 'content' && (message[name] ?? null) !== null,
    );
    if (other !== undefined) refuse(`${at}.${other.slice(0, 64)}`, message[other], 'role and content alone');
    return { role: message.role as string, content: contentOf(message.content, at) };
  });
};

/** @throws SluiceError `invalid_request` */
export const parseCompletionRequest = (members: Members, isChat: boolean): CompletionRequest => {
  checkKnown(members, isChat ? KNOWN_CHAT : KNOWN_TEXT);
  checkPlain(members);
  const asked = isChat
    ? { prompts: [messagesOf(given(members, 'messages'))], kind: 'messages' as const }
    : promptsOf(given(members, 'prompt'));
  return {
    ...{ model: modelOf(members), isChat, ...asked },
    ...{ parameters: parametersOf(members), user: userOf(members) },
  };
};

/**
 * The columns of the function's rows. A function of texts takes the messages of a single user's message as its content;
 * parameters go to inputs of their names.
 * @throws SluiceError `invalid_request` where the function takes something else, or has no input for a parameter
 */
export const completionColumns = (
  request: CompletionRequest,
  [first, ...more]: readonly FieldJson[],
): Record<string, readonly unknown[]> => {
  const rows = request.prompts.length;
  const columns: Record<string, readonly unknown[]> = { [first!.name]: promptColumn(request, first!) };
  for (const [name, value] of Object.entries(request.parameters)) {
    const isThere = more.some((field) => field.name === name);
    if (isThere) columns[name] = new Array<unknown>(rows).fill(value);
    else if (value !== NEUTRAL[name])
      throw new SluiceError(
        'invalid_request',
        `The model ${request.model} takes no ${name}; leave it out, or give its function a nullable input of the name.`,
        { field: name },
      );
  }
  return columns;
};

const promptColumn = ({ prompts, kind, model }: CompletionRequest, field: FieldJson): readonly unknown[] => {
  const taken = inputKind(field.type);
  if (taken === kind) return prompts;
  const only = kind === 'messages' ? (prompts[0] as readonly Message[]) : null;
  if (taken === 'text' && only?.length === 1 && only[0]!.role === 'user') return [only[0]!.content];
  const route = taken === 'messages' ? '/v1/chat/completions' : '/v1/completions';
  throw new SluiceError(
    'invalid_request',
    `The model ${model} takes ${taken === 'text' ? 'a text' : taken}, and ${kind} came; use ${route}${taken === 'text' && only !== null ? ', or send a single message of the user' : ''}.`,
    { field: kind === 'messages' ? 'messages' : 'prompt' },
  );
};

const tokensOf = (prompt: Prompt): number => {
  if (typeof prompt === 'string') return estimatedTokens(prompt);
  let tokens = 0;
  for (const part of prompt) tokens += typeof part === 'number' ? 1 : estimatedTokens(part.content);
  return tokens;
};

const usageOf = (
  { prompts }: CompletionRequest,
  texts: readonly string[],
): Usage & { readonly completion_tokens: number } => {
  const prompt = prompts.reduce((sum: number, one) => sum + tokensOf(one), 0);
  const completion = texts.reduce((sum, text) => sum + estimatedTokens(text), 0);
  return {
    ...{ prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
    counted: 'estimated',
  };
};

/** `id`: of the call. What ended a text is the function's to know: it is always said to be whole. */
export const completionAnswer = (
  request: CompletionRequest,
  texts: readonly string[],
  { id, createdSeconds }: { readonly id: string; readonly createdSeconds: number },
): string => {
  const { isChat, model } = request;
  const end = { logprobs: null, finish_reason: 'stop' };
  return JSON.stringify({
    id: `${isChat ? 'chatcmpl' : 'cmpl'}-${id}`,
    object: isChat ? 'chat.completion' : 'text_completion',
    created: createdSeconds,
    model,
    choices: texts.map((text, index) =>
      isChat
        ? { index, message: { role: 'assistant', content: text, refusal: null }, ...end }
        : { index, text, ...end },
    ),
    usage: usageOf(request, texts),
  });
};

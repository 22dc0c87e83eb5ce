/** What `usage` says. The server has no tokenizer of the model: it counts exactly where token lists came, and says so. */

export type Usage = {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
  /** `estimated`: four bytes of UTF-8 are one token, as OpenAI's rule of thumb for English has it. */
  readonly counted: 'exact' | 'estimated';
};

const TOKEN_BYTES = 4;

/** Of one text. */
export const estimatedTokens = (text: string): number => Math.ceil(Buffer.byteLength(text) / TOKEN_BYTES);

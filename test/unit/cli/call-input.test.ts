import { describe, expect, it } from 'vitest';
import { callFunction, inputOf, rowOf } from '../../../cli/call/call-function.ts';
import { jsonValue } from '../../../cli/print.ts';
import { type CallInput, Sluice } from '../../../sdk/index.ts';
import { encodeBatch, toBatch } from '../../../sdk/input.ts';
import { streamToColumns } from '../../../shared/arrow/index.ts';
import type { FieldJson } from '../../../shared/domain/function.ts';
import { ROOT } from '../../support/sluice-process.ts';

const FIELDS: readonly FieldJson[] = [{ name: 'd', type: { decimal: [38, 2], bits: 128 }, nullable: false }];
const fields = async (): Promise<readonly FieldJson[]> => FIELDS;

/** What a call of these rows carries. */
const sent = async (input: CallInput): Promise<unknown> => {
  const { body, isArrow } = await encodeBatch(await toBatch(input, fields), fields);
  return isArrow ? streamToColumns(body as Uint8Array) : JSON.parse(body as string);
};

const EXACT = '12345678901234567890.12';

describe('sluice call', () => {
  it.each<[string, () => CallInput]>([
    ['key=value', () => [rowOf([`d=${EXACT}`])]],
    ['rows', () => inputOf(`[{"d":${EXACT}}]`, '--json')],
    ['values of the only input', () => inputOf(`[${EXACT}]`, '--json')],
    ['columns', () => inputOf(`{"columns":{"d":[${EXACT}]}}`, '--json')],
    ['JSON Lines', () => inputOf(`{"d":${EXACT}}\n`, '--json')],
    ['a bare value', () => inputOf(EXACT, '--json')],
  ])('sends every digit of a number: %s', async (_, input) => {
    expect(await sent(input())).toEqual({ d: [EXACT] });
  });

  it('takes no directory for its rows', async () => {
    const client = new Sluice({ url: 'http://127.0.0.1:1' });
    const request = { json: null, input: ROOT, timeoutMs: 1, isWaiting: false, submission: {} };
    await expect(callFunction(client, 'f', [], request)).rejects.toThrow(
      `--input ${ROOT} is a directory; give a file`,
    );
  });

  it('prints wide integers as the server does', () => {
    expect(JSON.stringify([9007199254740993n, { id: -9007199254740993n }], jsonValue)).toBe(
      '[9007199254740993,{"id":-9007199254740993}]',
    );
  });
});

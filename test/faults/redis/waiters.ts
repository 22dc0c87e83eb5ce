/** Everyone who can wait for a call, and what they are told when it is lost. */
import { Sluice } from '../../../sdk/index.ts';
import { eventually } from '../../support/sluice-process.ts';
import type { Witness } from '../../support/witness.ts';

/** Longer than a test may take. */
const WAIT_S = 100;

type Waiter = { readonly what: string; readonly told: Promise<string> };

export const problemCode = async (response: Response): Promise<string> =>
  `${response.status} ${((await response.json()) as { code?: string }).code}`;

/** A function whose calls wait, and one call of it; its rows never run. */
export class QuietFunction {
  readonly #url: string;
  readonly #name: string;

  private constructor(url: string, name: string) {
    this.#url = url;
    this.#name = name;
  }

  static async deploy(url: string, witness: Witness, deploy: (source: string) => Promise<unknown>) {
    await deploy(witness.source);
    await new Sluice({ url }).pause(witness.name);
    return new QuietFunction(url, witness.name);
  }

  async call(): Promise<string> {
    return ((await (await this.#submit()).json()) as { call_id: string }).call_id;
  }

  /** Begins to wait in every way for a call, and ends when all of them do. */
  async wait(id: string): Promise<readonly Waiter[]> {
    const url = this.#url;
    const sluice = new Sluice({ url });
    const before = await this.#waitingRows();
    const stream = await fetch(`${url}/v1/calls/${id}/events`);
    const waiters = [
      { what: 'a long poll', told: fetch(`${url}/v1/calls/${id}?wait=${WAIT_S}`).then(problemCode) },
      { what: 'a result', told: fetch(`${url}/v1/calls/${id}/result?wait=${WAIT_S}`).then(problemCode) },
      { what: 'Prefer: wait', told: this.#submit({ prefer: `wait=${WAIT_S}` }).then(problemCode) },
      {
        what: 'server-sent events',
        told: stream.text().then((text) => /"code":"\w+"/.exec(text)?.[0] ?? text),
      },
      { what: 'a handle', told: codeOf(sluice.call(id).get({ timeoutMs: WAIT_S * 1000 })) },
      { what: "a handle's events", told: codeOf(lastOf(sluice.call(id).events())) },
    ];
    await eventually('all of them wait', async () => (await this.#waitingRows()) === before + ROWS);
    return waiters;
  }

  #submit(headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${this.#url}/v1/functions/${this.#name}/calls`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: '{"columns":{"value":[1,2,3]}}',
    });
  }

  async #waitingRows(): Promise<number> {
    const answer = await (await fetch(`${this.#url}/v1/functions/${this.#name}`)).json();
    return (answer as { queue: { waiting_rows: number } }).queue.waiting_rows;
  }
}

const ROWS = 3;

export const toldOf = (waiters: readonly Waiter[]): Promise<(readonly [string, string])[]> =>
  Promise.all(waiters.map(async ({ what, told }) => [what, await told] as const));

/** What each waiter is told of a call that will never end. */
export const TOLD_LOST = [
  ['a long poll', '500 data_lost'],
  ['a result', '500 data_lost'],
  ['Prefer: wait', '500 data_lost'],
  ['server-sent events', '"code":"data_lost"'],
  ['a handle', 'data_lost'],
  ["a handle's events", 'data_lost'],
];

const codeOf = async (asked: Promise<unknown>): Promise<string> => {
  try {
    return `answered ${JSON.stringify(await asked)}`;
  } catch (error) {
    return String((error as { code?: string }).code ?? error);
  }
};

const lastOf = async <T>(events: AsyncIterable<T>): Promise<T | undefined> => {
  let last: T | undefined;
  for await (const event of events) last = event;
  return last;
};

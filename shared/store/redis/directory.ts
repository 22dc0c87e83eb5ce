/** Which functions there are and what never changes of their versions; both ids and names are looked up here. */
import type { Isolation } from '../../domain/function.ts';
import { functionOfVersion, isFunctionNumber, type Layout, serialOfVersion } from './layout.ts';
import type { Link } from './link.ts';
import type { FunctionDirectory, QueueContext, VersionFacts } from './queue-context.ts';

/** Versions whose facts are kept: some hundred bytes each; more are read again. */
const FACTS_MAX = 10_000;
/** Read again then: the numbers of dropped versions are given to new ones, a day later at the soonest. */
const FACTS_MS = 600_000;

export type DirectoryOptions = {
  readonly link: Link;
  readonly layout: Layout;
  readonly owned: () => readonly number[];
};

export class Directory implements FunctionDirectory {
  readonly owned: () => readonly number[];
  readonly #link: Link;
  readonly #layout: Layout;
  readonly #facts = new Map<number, { readonly facts: VersionFacts; readonly readAt: number }>();

  constructor({ link, layout, owned }: DirectoryOptions) {
    this.#link = link;
    this.#layout = layout;
    this.owned = owned;
  }

  async version(versionId: number): Promise<VersionFacts | undefined> {
    const known = this.#facts.get(versionId);
    const now = performance.now();
    if (known !== undefined && now < known.readAt + FACTS_MS) return known.facts;
    const fn = functionOfVersion(versionId);
    if (!isFunctionNumber(fn)) return undefined;
    const [name, text] = await Promise.all([
      this.#link.command<Buffer | null>('HGET', this.#layout.key(fn, 'function'), 'name'),
      this.#link.command<Buffer | null>('HGET', this.#layout.key(fn, 'facts'), serialOfVersion(versionId)),
    ]);
    if (name === null || text === null) return undefined;
    const { digest, isolation } = JSON.parse(String(text)) as { digest: string; isolation: Isolation };
    const facts = { functionName: String(name), digest, isolation };
    if (this.#facts.size >= FACTS_MAX) this.#facts.delete(this.#facts.keys().next().value!);
    this.#facts.set(versionId, { facts, readAt: now });
    return facts;
  }

  async number(functionName: string): Promise<number | undefined> {
    const fn = await this.anyNumber(functionName);
    if (fn === undefined) return undefined;
    const removed = await this.#link.command<number>('HEXISTS', this.#layout.key(fn, 'function'), 'removed');
    return removed === 1 ? undefined : fn;
  }

  async anyNumber(functionName: string): Promise<number | undefined> {
    const text = await this.#link.command<Buffer | null>(
      'HGET',
      this.#layout.store('functions'),
      functionName,
    );
    return text === null ? undefined : Number(text);
  }

  async numbers(): Promise<readonly number[]> {
    const texts = await this.#link.command<Buffer[]>('HVALS', this.#layout.store('functions'));
    return texts.map(Number);
  }

  async names(): Promise<ReadonlyMap<string, number>> {
    const list = await this.#link.command<Buffer[]>('HGETALL', this.#layout.store('functions'));
    const names = new Map<string, number>();
    for (let at = 0; at < list.length; at += 2) names.set(String(list[at]), Number(list[at + 1]));
    return names;
  }
}

/** @see Directory */
export const directoryOf = (context: QueueContext): Directory => context.functions as Directory;

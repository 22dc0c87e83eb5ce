/** API keys. A key's secret is shown once and stored as its SHA-256 (keys are 256 random bits, so no slow hash is needed). */
export type Scope = 'call' | 'deploy' | 'admin';

export type ApiKey = {
  readonly id: number;
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** First characters of the secret, to tell keys apart in lists. */
  readonly prefix: string;
  readonly createdAt: number;
};

export interface Keys {
  create(query: {
    readonly now: number;
    readonly name: string;
    readonly scopes: readonly Scope[];
    readonly secretHash: string;
    readonly prefix: string;
  }): Promise<ApiKey>;
  list(): Promise<readonly ApiKey[]>;
  revoke(id: number): Promise<boolean>;
  /** By the hash of the presented secret. */
  find(secretHash: string): Promise<ApiKey | undefined>;
}

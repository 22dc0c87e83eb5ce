/** When results go, and how much the store holds. */
export type Usage = {
  readonly databaseBytes: number;
  readonly segmentBytes: number;
  readonly segmentFiles: number;
  readonly limitBytes: number;
  /** True while admission is refused with 507. */
  readonly full: boolean;
};

export interface Retention {
  /** A reader has the whole result: it may go at `now` + the acknowledged retention. */
  acknowledge(query: { readonly now: number; readonly callId: number }): Promise<boolean>;
  /** Drops what is past its retention, at most `limit` calls; true when more is due. */
  sweep(query: { readonly now: number; readonly limit: number }): Promise<boolean>;
  usage(): Promise<Usage>;
}

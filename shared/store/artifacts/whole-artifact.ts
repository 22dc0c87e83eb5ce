/** Storing bytes that are all here, as an artifact. */
import type { Digest } from '../../domain/model.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { Artifacts } from '../ports/artifacts.ts';

/** Another upload of the same bytes moves the offset under ours. */
const APPENDS_MAX = 5;

export type WholeArtifact = {
  readonly digest: Digest;
  readonly bytes: number;
  /** The bytes from there on; it may be called several times. */
  readonly bodyFrom: (offsetBytes: number) => AsyncIterable<Uint8Array>;
};

/** Goes on where an earlier upload of the same bytes broke off. @throws SluiceError of the artifacts */
export const storeWhole = async (
  artifacts: Artifacts,
  { digest, bytes, bodyFrom }: WholeArtifact,
): Promise<void> => {
  for (let round = 1; ; round += 1) {
    const { isComplete, receivedBytes } = await artifacts.state(digest);
    if (isComplete) return;
    try {
      await artifacts.append({ digest, offsetBytes: receivedBytes, bytes, body: bodyFrom(receivedBytes) });
      return;
    } catch (error) {
      const isMoved = error instanceof SluiceError && error.code === 'artifact_offset_conflict';
      if (!isMoved || round === APPENDS_MAX) throw error;
    }
  }
};

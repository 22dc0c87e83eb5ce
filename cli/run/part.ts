/** A finished chunk as it lies on disk: an Arrow stream of the kept columns, `result`, and `error` where it is asked for. */
import { besideColumns } from '../../sdk/table.ts';
import { openStream, readStream, sliceStream } from '../../shared/arrow/index.ts';
import { BugError } from '../../shared/errors/sluice-error.ts';
import { joinStreams } from './row-streams.ts';

export const partOf = (kept: Uint8Array | null, result: Uint8Array, hasErrors: boolean): Uint8Array => {
  const extra = hasErrors ? ['error'] : [];
  if (kept === null) return besideColumns(null, result, extra);
  const rows = openStream(kept);
  const results = readStream(result);
  if (rows.rows !== results.rows)
    throw new BugError(`a chunk of ${rows.rows} rows has ${results.rows} results`);
  if (rows.rows === 0) return besideColumns(sliceStream(rows, 0, 0), sliceStream(results, 0, 0), extra);
  if (results.batches.length <= 1 && rows.batches.length <= 1) return besideColumns(kept, result, extra);
  // Side by side needs the same record batches: both are cut where either begins a new one.
  const cuts = [...new Set([...rows.batches, ...results.batches].map(({ from }) => from))].sort(
    (a, b) => a - b,
  );
  return joinStreams(
    cuts.map((from, i) => {
      const count = (cuts[i + 1] ?? rows.rows) - from;
      return besideColumns(sliceStream(rows, from, count), sliceStream(results, from, count), extra);
    }),
  );
};

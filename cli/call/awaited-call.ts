/** A call that a command waits for. */
import type { CallHandle, CallJson, CallResult, Sluice } from '../../sdk/index.ts';
import { CommandError, EXIT_INTERRUPTED } from '../failure.ts';
import { watchWaiting } from './waiting-notice.ts';

/** The result, with what it waits for said meanwhile. Ctrl-C stops the waiting, not the call. */
export const awaited = async (
  client: Sluice,
  handle: CallHandle,
  call: CallJson,
  timeoutMs: number | undefined,
): Promise<CallResult> => {
  const { callId } = handle;
  const stop = new AbortController();
  const interrupt = (): void =>
    stop.abort(
      new CommandError(
        `Interrupted; call ${callId} goes on. \`sluice calls wait ${callId}\` waits for it, \`sluice calls cancel ${callId}\` cancels it.`,
        EXIT_INTERRUPTED,
      ),
    );
  // A second one ends the process at once, as it does without a handler.
  process.once('SIGINT', interrupt);
  const endWatch = watchWaiting(client, {
    functionName: call.function,
    version: call.version,
    ending: `call ${callId} goes on if you stop`,
  });
  try {
    return await handle.result({ timeoutMs, signal: stop.signal });
  } finally {
    endWatch();
    process.off('SIGINT', interrupt);
  }
};

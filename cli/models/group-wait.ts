/** Waiting for a scaling group, with what it is doing said as it changes. */
import { type ScalingGroupJson, type Sluice, TimeoutError } from '../../sdk/index.ts';
import { CommandError } from '../failure.ts';
import { reasonLine } from '../print.ts';

/** What the server takes to drop an update whose time is over, so that its own words are printed. */
const GRACE_MS = 10_000;

const stateText = ({ state, reason, replicas }: ScalingGroupJson): string =>
  `${state}, ${replicas.ready} ready, ${replicas.starting} starting${reason === null ? '' : `: ${reasonLine(reason)}`}`;

/** @throws DeploymentError when no replica can start, or an update was rolled back; CommandError when its time to be ready is over */
export const waitForGroup = async (client: Sluice, begun: ScalingGroupJson): Promise<ScalingGroupJson> => {
  let said = '';
  const waiting = client.scalingGroups.waitReady(begun.name, {
    since: begun,
    // A first version is never dropped.
    timeoutMs: begun.ready_timeout_ms + GRACE_MS,
    onState: (group) => {
      const text = stateText(group);
      if (text !== said) process.stderr.write(`${group.name}: ${text}\n`);
      said = text;
    },
  });
  return waiting.catch((error: unknown) => {
    if (!(error instanceof TimeoutError)) throw error;
    throw new CommandError(
      `${error.message} See \`sluice groups show ${begun.name}\` and \`sluice groups logs ${begun.name}\`.`,
    );
  });
};

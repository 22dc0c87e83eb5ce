/** Waiting for a scaling group, with what it is doing said as it changes. */
import type { ScalingGroupJson, Sluice } from '../../sdk/index.ts';
import { reasonLine } from '../print.ts';

const stateText = ({ state, reason, replicas }: ScalingGroupJson): string =>
  `${state}, ${replicas.ready} ready, ${replicas.starting} starting${reason === null ? '' : `: ${reasonLine(reason)}`}`;

/** @throws DeploymentError when no replica can start, or an update was rolled back */
export const waitForGroup = (client: Sluice, begun: ScalingGroupJson): Promise<ScalingGroupJson> => {
  let said = '';
  return client.scalingGroups.waitReady(begun.name, {
    since: begun,
    onState: (group) => {
      const text = stateText(group);
      if (text !== said) process.stderr.write(`${group.name}: ${text}\n`);
      said = text;
    },
  });
};

import { Sluice } from '@sluice/sdk';

const shout = new Sluice().function<{ text: string }, string>('shout');
const handle = await shout.deferBatch([{ text: 'one' }, { text: 'two' }]);
console.log(handle.callId, await handle.get({ timeoutMs: 60_000 }));

import { SHARED_WITH_RELAY } from '../../contract/engine-traits.ts';
import { forwardEngineContract } from '../../contract/forward-engine.ts';
import { describeInOwnNetwork, sharedUnderTest } from './contract.support.ts';

/** Everybody may pass it, and only the relay can tell. */
const RELAYED = ' hosts natward';

describeInOwnNetwork('the contract of engines, both as one', () =>
  forwardEngineContract(
    'rules that the kernel hands to the relay',
    SHARED_WITH_RELAY,
    () => {
      const { relayClock, ...under } = sharedUnderTest();
      return { ...under, pass: (ms) => relayClock.advance(ms) };
    },
    RELAYED,
  ),
);

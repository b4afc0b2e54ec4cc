import { relayOn, STREAMS } from '../forwarder/relay/support.ts';
import { RELAY } from './engine-traits.ts';
import { forwardEngineContract } from './forward-engine.ts';

for (const [name, streams] of STREAMS) {
  forwardEngineContract(`the relay on ${name}`, RELAY, () => {
    const { relay, clock, events } = relayOn(streams);
    return { engine: relay, events, pass: (ms) => clock.advance(ms) };
  });
}

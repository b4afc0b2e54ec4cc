import { relayOn, STREAMS } from '../forwarder/relay/support.ts';
import { forwardEngineContract } from './forward-engine.ts';

for (const [name, streams] of STREAMS) {
  forwardEngineContract(`the relay on ${name}`, () => {
    const { relay, clock, events } = relayOn(streams);
    return { engine: relay, events, pass: (ms) => clock.advance(ms) };
  });
}

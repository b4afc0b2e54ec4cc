/**
 * A VPN provider's gateway as a program: the embedded gateway with its habits, on the address that is named. It ends with
 * the test that started it.
 */

import { startGateway } from '../../../src/responder/gateway.ts';
import { systemClock } from '../../../src/system/clock.ts';

const [address = '', outerAddress = ''] = process.argv.slice(2);
await startGateway(
  {
    address,
    outerAddress,
    ports: { pcp: 5351 },
    protocols: ['natpmp'],
    quirks: { vpnHabits: { internalPortInAnswer: 'zero' } },
  },
  systemClock,
);
console.log('the VPN gateway answers');

/**
 * The embedded gateway as a program of its own, for measurements of what asks it: on the inner address of the
 * lab's gateway and on the standard ports, with room for 20,000 mappings that carry nothing. Ends with SIGTERM.
 */

import { startGateway } from '../src/responder/gateway.ts';
import { systemClock } from '../src/system/clock.ts';
import { GATEWAY_PORT } from '../src/wire/natpmp.ts';
import { SSDP_PORT } from '../src/wire/ssdp.ts';

const [address = '', outerAddress = ''] = process.argv.slice(2);
const gateway = await startGateway(
  {
    address,
    outerAddress,
    ports: { pcp: GATEWAY_PORT, ssdp: SSDP_PORT, http: 0 },
    carriesTraffic: false,
    maxMappings: 20_000,
  },
  systemClock,
);
process.once('SIGTERM', () => void gateway.close());
console.log('ready');

/** A mapping as the store keeps it. */

import type { RememberedMapping } from '../../src/agent/store.ts';

export function remembered(change: Partial<RememberedMapping> = {}): RememberedMapping {
  return {
    gateway: '192.168.1.1',
    via: 'pcp',
    protocol: 'tcp',
    internalClient: '192.168.1.10',
    internalPort: 8080,
    externalPort: 8080,
    externalAddress: '198.51.100.7',
    requestedExternalPort: 8080,
    lifetimeSeconds: 7200,
    expiresAtMs: Date.UTC(2099, 0, 1),
    description: 'natward 8080/tcp',
    nonce: '00112233445566778899aabb',
    pinholeId: null,
    ...change,
  };
}

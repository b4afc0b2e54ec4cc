/** A lease as `natward status` has it: TCP 443 of the gateway to 8443 of this host, held over PCP. */

import type { LeaseStatus } from '../../src/agent/lease.ts';

export function sampleLease(change: Partial<LeaseStatus> = {}): LeaseStatus {
  return {
    id: '3fa94c01/tcp/8443',
    intentId: '3fa94c01',
    owner: 'user',
    spec: '443:8443',
    state: 'held',
    protocol: 'tcp',
    family: 4,
    requestedExternalPort: 443,
    externalAddress: '198.51.100.7',
    externalPort: 443,
    internalClient: '192.168.1.10',
    internalPort: 8443,
    target: null,
    lifetimeSeconds: 7200,
    expiresAt: '2026-11-20T12:00:00.000Z',
    renewsAt: '2026-11-20T11:00:00.000Z',
    via: 'pcp',
    gateway: '192.168.1.1',
    description: 'natward 8443/tcp',
    notes: [],
    error: null,
    ...change,
  };
}

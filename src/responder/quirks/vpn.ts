/**
 * NAT-PMP as VPN providers serve it (Proton VPN, at 10.2.0.1). One public address is shared by all customers, so
 * the gateway chooses the port, the same for TCP and UDP, whatever is suggested; and it forwards to the port of
 * that very number on the client's side, whatever internal port was named. People name 1 or 0 and ask again every
 * 45 seconds, since nothing is held for longer than a minute.
 */

import { randomInt } from 'node:crypto';
import type { IpAddress } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { NATPMP_RESULT, type NatpmpRequest, type NatpmpResponse } from '../../wire/natpmp.ts';
import type { GrantOutcome, GrantRequest } from '../grant.ts';
import type { Hooks } from '../hooks.ts';
import { NATPMP_REFUSAL } from '../natpmp.ts';
import type { Site } from '../site.ts';
import type { Inside } from './inside.ts';

export interface VpnHabits {
  /** What an answer names as the internal port. Proton VPN: zero. */
  readonly internalPortInAnswer: 'zero' | 'one' | 'echo';
}

type MapRequest = Extract<NatpmpRequest, { readonly opcode: 'map' }>;

const TRANSPORTS: readonly TransportProtocol[] = ['tcp', 'udp'];
const LONGEST_LIFETIME_SECONDS = 60;
const PORT_TRIES = 1000;

export function vpnHabits({ internalPortInAnswer }: VpnHabits, { site }: Inside): Hooks {
  /** The port of each client; the table says whether it still holds it. */
  const ports = new Map<IpAddress, number>();
  /** One after the other: a client's requests for TCP and UDP may come together, and get one port. */
  let before: Promise<unknown> = Promise.resolve();
  return {
    async natpmp(heard, next) {
      const { request, source } = heard;
      if (request.opcode !== 'map') return next(heard);
      const { protocol, suggestedExternalPort, lifetimeSeconds } = request;
      const answer = {
        opcode: 'map',
        protocol,
        internalPort: { zero: 0, one: 1, echo: request.internalPort }[internalPortInAnswer],
        epochSeconds: site.identity.epochSeconds,
      } as const;
      if (lifetimeSeconds === 0) {
        await site.grants.remove('natpmp', (table) =>
          table.list().filter((entry) => entry.internalClient === source && entry.protocol === protocol),
        );
        return { ...answer, result: NATPMP_RESULT.SUCCESS, externalPort: 0, lifetimeSeconds: 0 };
      }
      const granting = before.then(() => granted(request, source, ports, site));
      before = granting.catch(() => undefined);
      const outcome = await granting;
      if (outcome.kind === 'refused') {
        const result = NATPMP_REFUSAL[outcome.refusal];
        return { ...answer, result, externalPort: suggestedExternalPort, lifetimeSeconds };
      }
      return mapped(answer, outcome);
    },
  };
}

function mapped(
  answer: Omit<Extract<NatpmpResponse, { opcode: 'map' }>, 'result' | 'externalPort' | 'lifetimeSeconds'>,
  { entry, lifetimeSeconds = LONGEST_LIFETIME_SECONDS }: Extract<GrantOutcome, { kind: 'granted' }>,
): NatpmpResponse {
  return { ...answer, result: NATPMP_RESULT.SUCCESS, externalPort: entry.externalPort, lifetimeSeconds };
}

async function granted(
  { protocol, lifetimeSeconds }: MapRequest,
  client: IpAddress,
  ports: Map<IpAddress, number>,
  site: Site,
): Promise<GrantOutcome> {
  const ask = (port: number): Promise<GrantOutcome> =>
    site.grants.grant({
      ...REQUEST,
      requester: client,
      protocol,
      internalClient: client,
      internalPort: port,
      suggestedExternalPort: port,
      lifetimeSeconds: Math.min(lifetimeSeconds, LONGEST_LIFETIME_SECONDS),
    });
  const holders = (port: number) =>
    TRANSPORTS.map((transport) => site.grants.get('natpmp', transport, port)?.internalClient);
  const held = ports.get(client);
  if (held !== undefined && holders(held).includes(client)) return ask(held);
  for (let tries = 0; tries < PORT_TRIES; tries++) {
    const port = randomInt(1024, 65_536);
    if (port === held || holders(port).some((holder) => holder !== undefined)) continue;
    const outcome = await ask(port);
    if (outcome.kind === 'granted') ports.set(client, port);
    if (outcome.kind === 'granted' || outcome.refusal === 'table-full') return outcome;
  }
  return { kind: 'refused', refusal: 'no-free-port' };
}

/** What no NAT-PMP request says. */
const REQUEST = {
  via: 'natpmp',
  exact: true,
  description: undefined,
  enabled: true,
  remotePeers: undefined,
} as const satisfies Partial<GrantRequest>;

/**
 * VPN port forwarding, in one line: a gateway that grants a random port for a minute, a link of one address, and a client
 * that goes along. The link is a veth that carries nothing; the gateway is reached through the lan.
 */

import { afterEach, expect, test } from 'vitest';
import { startKeep, until } from './support/keeping.ts';
import { ADDRESSES } from './support/lab.ts';
import { describeLab } from './support/suite.ts';
import { missingFor, TorrentClient } from './support/torrents.ts';

const VPN_GATEWAY = '10.2.0.1';
const VPN_ADDRESS = '10.2.0.2';
const SCRIPT = 'test/lab/support/vpn-gateway.ts';
const missing = missingFor('transmission');

describeLab('VPN port forwarding', {}, (lab) => {
  const ends: (() => Promise<unknown>)[] = [];

  afterEach(async () => {
    for (const end of ends.splice(0).toReversed()) await end();
  });

  async function connect(): Promise<void> {
    const steps = [
      ['gw', `ip address add ${VPN_GATEWAY}/32 dev lo`],
      ['gw', `ip route add ${VPN_ADDRESS}/32 via ${ADDRESSES.lan}`],
      ['lan', 'ip link add wg0 type veth peer name wg0peer'],
      ['lan', `ip address add ${VPN_ADDRESS}/32 dev wg0`],
      ['lan', 'ip link set wg0 up'],
      ['lan', 'ip link set wg0peer up'],
      ['lan', `ip route add ${VPN_GATEWAY}/32 via ${ADDRESSES.gateway} src ${VPN_ADDRESS}`],
    ] as const;
    for (const [where, command] of steps) await lab().must(where, command.split(' '));
  }

  async function startVpnGateway(): Promise<() => Promise<unknown>> {
    const command = [process.execPath, '--import', 'tsx', SCRIPT, VPN_GATEWAY, ADDRESSES.outer];
    const gateway = lab().spawn('gw', command);
    const stop = () => gateway.stop('SIGKILL');
    ends.push(stop);
    await gateway.waitFor(/answers/, 20_000);
    return stop;
  }

  test.skipIf(missing.length > 0)(
    `one line keeps the port that the VPN grants, and the client listens on it ${missing.join()}`,
    async () => {
      await connect();
      const stop = await startVpnGateway();
      const client = new TorrentClient(lab(), 'transmission');
      ends.push(() => client.stop());
      await client.start();
      const keep = startKeep(lab(), [
        '*:6881/tcp+udp',
        '--gateway',
        VPN_GATEWAY,
        '--sync',
        `transmission=${client.url}`,
      ]);
      ends.push(() => keep.end('SIGKILL'));

      const { lease } = await keep.event('granted');
      const port = lease.externalPort ?? 0;
      expect(lease).toMatchObject({
        internalPort: port,
        internalClient: VPN_ADDRESS,
        lifetimeSeconds: 60,
        via: 'natpmp',
      });
      await until('both protocols have it', async () => keep.eventsOf('granted').length === 2);
      expect(keep.eventsOf('granted').map((event) => event.lease.externalPort)).toEqual([port, port]);
      await until(`transmission listens on ${port}`, () => client.listensOn(port));

      await until('it is renewed', async () => keep.eventsOf('renewed').length === 2, 45_000);
      expect(keep.eventsOf('lost')).toEqual([]);

      await stop();
      await startVpnGateway();
      const changed = await keep.event('changed');
      const other = changed.lease.externalPort ?? 0;
      expect(changed.previous.externalPort).toBe(port);
      await until(`transmission listens on ${other}`, () => client.listensOn(other));
      expect(keep.eventsOf('warning')).toEqual([]);
    },
  );
});

/** Who may come in: 127.0.0.2 is on the list and 127.0.0.3 is not. */

import type { Case } from '../case.ts';
import { openTcp, turnedAway } from '../tcp-peer.ts';
import { echoTarget } from '../tcp-target.ts';
import { openUdp, udpEcho } from '../udp-peer.ts';

const ALLOW = ['127.0.0.2/32'];
const ALLOWED = '127.0.0.2';
const DENIED = '127.0.0.3';

export const access: readonly Case[] = [
  {
    name: 'only a source address on the list gets a TCP conversation',
    protocol: 'tcp',
    needs: ['allow lists'],
    async run(subject, context) {
      const target = await echoTarget(context);
      const { at } = await subject.forward('tcp', target.endpoint, { allow: ALLOW });
      await turnedAway(context, at, 1000, DENIED);
      if (target.count > 0) throw new Error('the target was connected to for an address that is not allowed');
      const client = await openTcp(context, at, ALLOWED);
      await client.write('hello');
      await client.read(5);
    },
  },
  {
    name: 'only a source address on the list gets its datagrams through',
    protocol: 'udp',
    needs: ['allow lists'],
    async run(subject, context) {
      const target = await udpEcho(context);
      const { at } = await subject.forward('udp', target, { allow: ALLOW });
      const denied = await openUdp(context, at, { from: DENIED });
      denied.send('hello');
      const answer = await denied.maybe(500).catch(() => undefined);
      if (answer !== undefined) throw new Error('a reply reached an address that is not allowed');
      const allowed = await openUdp(context, at, { from: ALLOWED });
      allowed.send('hello');
      await allowed.next();
    },
  },
];

/**
 * Real BitTorrent clients follow the port that a real gateway grants, whichever that is. Judged by the sockets
 * that the clients have open and by the gateway's kernel.
 */

import { afterEach, describe, expect, test } from 'vitest';
import { SYNC_CLIENTS } from '../../src/agent/hooks/hook.ts';
import { type Keeping, startKeep, until, untilRules } from './support/keeping.ts';
import { ADDRESSES } from './support/lab.ts';
import { describeLab, rule } from './support/suite.ts';
import { missingFor, TorrentClient } from './support/torrents.ts';

/** None of them listens there by itself. */
const SPEC = '*:40881/tcp+udp';

describeLab('sync', { rival: true }, (lab) => {
  let keep: Keeping | undefined;
  let client: TorrentClient | undefined;

  afterEach(async () => {
    keep?.process.signal('SIGCONT');
    await Promise.all([keep?.end('SIGKILL'), client?.stop()]);
  });

  const granted = async (): Promise<number> => (await keep?.event('granted'))?.lease.externalPort ?? 0;
  const bothRules = (port: number) => [rule('tcp', port), rule('udp', port)];

  describe.each(SYNC_CLIENTS)('%s', (name) => {
    const missing = missingFor(name);
    const lacking = missing.length > 0 ? ` (lacks ${missing.join(', ')})` : '';

    test.skipIf(missing.length > 0)(
      `listens where it is granted, though it starts later, and goes along${lacking}`,
      async () => {
        const gateway = await lab().startGateway();
        client = new TorrentClient(lab(), name);
        keep = startKeep(lab(), [SPEC, '--sync', `${name}=${client.url}`]);
        const port = await granted();
        await client.start();
        await until(`${name} listens on ${port}`, async () => (await client?.listensOn(port)) === true);
        await untilRules(lab(), bothRules(port));

        // The gateway forgets, and another host is faster.
        keep.process.signal('SIGSTOP');
        await gateway.restart({ wipeTable: true });
        await lab().upnpc(['-a', ADDRESSES.rival, '80', String(port), 'tcp', '600'], { ns: 'rival' });
        keep.process.signal('SIGCONT');
        const other = (await keep.event('changed')).lease.externalPort ?? 0;
        expect(other).not.toBe(port);
        await until(`${name} listens on ${other}`, async () => (await client?.listensOn(other)) === true);
        expect(await client.listensOn(port)).toBe(false);
        expect(await lab().natRules()).toEqual(expect.arrayContaining(bothRules(other)));

        await client.stop();
        await client.start();
        await until(
          `${name} still listens on ${other}`,
          async () => (await client?.listensOn(other)) === true,
        );
        expect(keep.eventsOf('warning')).toEqual([]);
      },
    );

    test.skipIf(missing.length > 0)(`tells who does not know its password${lacking}`, async () => {
      await lab().startGateway();
      client = new TorrentClient(lab(), name);
      await client.start();
      const url = client.url.replace(/:[^:@/]+@/, ':hunter2@');
      keep = startKeep(lab(), [SPEC, '--sync', `${name}=${url}`]);
      const { message, advice } = await keep.event('warning');
      expect(message).toMatch(/ at http:\/\/127\.0\.0\.1:\d+ \(to listen on port \d+\): it does not /);
      expect(advice).toEqual(expect.any(String));
      expect(keep.process.output).not.toContain('hunter2');
      expect(await client.listensOn(await granted())).toBe(false);
    });
  });
});

/** BitTorrent clients behind natward, with their own mapping of ports on: peers outside talk to the client itself. */

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Engine, type InnerGateway, outerRule, startResponding, untilOuter } from '../support/inner.ts';
import { until } from '../support/keeping.ts';
import { ADDRESSES, type Lab } from '../support/lab.ts';
import { describeLab } from '../support/suite.ts';
import { missingFor, TorrentClient } from '../support/torrents.ts';

const CLIENTS: readonly { client: 'transmission' | 'qbittorrent'; engine: Engine; port: number }[] = [
  { client: 'transmission', engine: 'relay', port: 51_413 },
  { client: 'transmission', engine: 'nftables', port: 51_413 },
  { client: 'qbittorrent', engine: 'relay', port: 51_414 },
];

const PIECE_BYTES = 16_384;
/** One file of zeros (BEP 3). */
const INFO = Buffer.concat([
  Buffer.from(`d6:lengthi${PIECE_BYTES}e4:name5:zeros12:piece lengthi${PIECE_BYTES}e6:pieces20:`),
  createHash('sha1').update(Buffer.alloc(PIECE_BYTES)).digest(),
  Buffer.from('e'),
]);
const INFO_HASH = createHash('sha1').update(INFO).digest();
/** BEP 3: whoever has the torrent answers with the same. */
const HANDSHAKE = Buffer.concat([
  Buffer.from('\u0013BitTorrent protocol'),
  Buffer.alloc(8),
  INFO_HASH,
  Buffer.from('-NW0000-a peer outsi'),
]);
/** BEP 29: version 1, a SYN with connection id 7. */
const UTP_SYN = Buffer.from('4100000700000001000000000010000000010000', 'hex');

describeLab('BitTorrent clients behind natward', { inner: true }, (lab) => {
  let gateway: InnerGateway;
  let torrents: TorrentClient;
  beforeAll(() => lab().startGateway());
  afterEach(async () => {
    await torrents.stop();
    await gateway.stop();
    await untilOuter(lab());
  });

  describe.each(CLIENTS)('$client', ({ client, engine, port }) => {
    const missing = missingFor(client);
    test.skipIf(missing.length > 0)(`maps its port by itself, carried by ${engine}`, async () => {
      gateway = await startResponding(lab(), { engine });
      torrents = new TorrentClient(lab(), client, {
        ns: 'inner1',
        offers: { port, torrents: folder(lab()) },
      });
      await torrents.start();
      await untilOuter(lab(), `tcp ${port}`, `udp ${port}`);
      expect(await lab().natRules()).toEqual([outerRule('tcp', port), outerRule('udp', port)]);

      await shakesHands(lab(), port);
      await until('its state over UDP', async () => {
        const answer = await lab().ask(port, 'udp', UTP_SYN, { timeoutMs: 500 });
        return typeof answer !== 'string' && answer.readUInt8(0) === 0x21 && answer.readUInt16BE(2) === 7;
      });
    });
  });
});

/** A peer stays connected, since some hang up on whoever has said all. */
async function shakesHands(lab: Lab, port: number): Promise<void> {
  const file = join(lab.directory, 'handshake');
  writeFileSync(file, HANDSHAKE);
  // It takes the torrent some time after its web interface is there, and closes on those who ask before.
  await until('its handshake', async () => {
    const address = `TCP:${ADDRESSES.outer}:${port}`;
    const peer = lab.spawn('wan', ['socat', '-t0.1', `OPEN:${file},rdonly,ignoreeof!!STDOUT`, address]);
    const answered = await peer.waitFor(/BitTorrent protocol/, 1500).catch(() => undefined);
    await peer.stop();
    return answered !== undefined;
  });
}

function folder(lab: Lab): string {
  const path = join(lab.directory, 'torrents');
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'zeros.torrent'), Buffer.concat([Buffer.from('d4:info'), INFO, Buffer.from('e')]));
  return path;
}

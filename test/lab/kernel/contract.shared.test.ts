import { expect, test } from 'vitest';
import { SHARED } from '../../contract/engine-traits.ts';
import { forwardEngineContract } from '../../contract/forward-engine.ts';
import { client, freePort, ownAddress, serve, table, until } from '../../forwarder/relay/support.ts';
import { describeInOwnNetwork, sharedUnderTest } from './contract.support.ts';

describeInOwnNetwork('the contract of engines, both as one', () => {
  forwardEngineContract('the kernel with the relay', SHARED, sharedUnderTest);

  test('rules for one port are asked in one order, whichever engine carries each', async () => {
    const [first, second, third] = [
      await serve((peer) => peer.say('1')),
      await serve((peer) => peer.say('2')),
      await serve((peer) => peer.say('3')),
    ];
    const at = { address: ownAddress(), port: await freePort() };
    const { engine } = sharedUnderTest();
    const rules = table(
      `in tcp ${at.address}:${at.port} from 127.9.0.1 -> 127.0.0.1:${first.port}`,
      `in tcp ${at.address}:${at.port} from 127.9.0.0/24 -> 127.0.0.1:${second.port} hosts natward`,
      `in tcp ${at.address}:${at.port} from 127.9.0.0/16 -> 127.0.0.1:${third.port}`,
      `in tcp ${at.address}:${at.port} -> refuse`,
    );
    await engine.apply(rules, { conversations: 'drain' });
    expect(rules.map((rule) => engine.carriedBy(rule))).toEqual([
      ['nftables'],
      ['relay'],
      ['nftables'],
      ['nftables'],
    ]);
    for (const [localAddress, word] of [
      ['127.9.0.1', '1'],
      ['127.9.0.2', '2'],
      ['127.9.1.1', '3'],
    ] as const) {
      await client(at, { localAddress }).hears(word);
    }
    const refused = client(at, { localAddress: '127.8.0.1' });
    await until(() => refused.error === 'ECONNREFUSED');
    const activity = await engine.activity();
    expect(rules.map(({ id }) => activity.get(id)?.conversations)).toEqual([1, 1, 1, 0]);
    expect(activity.get('r4')?.refused).toBe(1);
  });
});

/** The table changes all the time, and what runs does not notice. */

import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { RuleEdit } from '../../../src/agent/rule-keeping.ts';
import { connectAgent } from '../../../src/control/client.ts';
import type { Conversation } from '../../../src/forwarder/engine.ts';
import { Stream } from './support/stream.ts';
import { describeKernel } from './support/topology.ts';

const CHANGES = 100;
const OPTIONS = { conversations: 'drain', dryRun: false } as const;

/** Beside the rule `runs`, which stays; each uses what the one before has left. */
const ROUND: readonly ((round: number) => RuleEdit)[] = [
  // On a port of its own, on the same port for somebody else, and over all ports: what runs is looked up among them.
  (round) => ({
    kind: 'add',
    rules: [
      { id: 'one', rule: `in tcp ${9000 + round} -> 10.62.0.3:8080` },
      { id: 'two', rule: 'in tcp+udp 80 from 192.0.2.0/24 -> 10.62.0.3:8080 open 5 rate 1MB/s' },
    ],
    before: '1',
  }),
  () => ({ kind: 'edit', name: 'one', rule: 'in tcp+udp 2000-4999 -> 10.62.0.3:+0 idle 30s' }),
  () => ({ kind: 'move', name: 'runs', before: '1' }),
  () => ({ kind: 'disable', names: ['two'] }),
  () => ({ kind: 'move', name: 'one', before: '1' }),
  () => ({ kind: 'enable', names: ['two'] }),
  () => ({ kind: 'move', name: 'two', before: '1' }),
  () => ({ kind: 'edit', name: 'two', rule: 'in tcp+udp 80 from 192.0.2.7 -> refuse' }),
  () => ({ kind: 'remove', names: ['one'] }),
  () => ({ kind: 'remove', names: ['two'] }),
];

describeKernel('kernel: changes of the table', (scene) => {
  beforeAll(() => scene().startAgent({ home: 'changes' }));

  test(`${CHANGES} changes of other rules: not a byte is lost, and the conversations are the same`, async () => {
    await scene().rules({ id: 'runs', rule: 'in tcp+udp 80 -> 10.62.0.2:8080' });
    await using stream = await Stream.between(scene().client, ['10.61.0.1', 80], scene().server, 8080);
    const agent = await connectAgent([join(scene().directory, 'changes', 'control.sock')]);
    if (agent === undefined) throw new Error('no agent answers');
    const before = await agent.conversations();
    const startMs = performance.now();
    for (let count = 0; count < CHANGES; count++) {
      const edit = (ROUND[count % ROUND.length] as (typeof ROUND)[number])(count);
      const { affected } = await agent.edit(edit, OPTIONS);
      expect(affected, JSON.stringify(edit)).toEqual([]);
    }
    const tookMs = performance.now() - startMs;
    const after = await agent.conversations();
    const [rule, ...others] = await agent.rules();
    const { client, server } = await stream.end();
    console.log(
      `${CHANGES} changes in ${(tookMs / 1000).toFixed(1)} s under ${client.sentBytes} bytes, ${client.datagramsSent} datagrams`,
    );
    expect(client).toMatchObject({ error: null, datagramsLost: 0, datagramsDoubled: 0 });
    expect([client.backBytes, client.backHash]).toEqual([client.sentBytes, client.sentHash]);
    expect([server.bytes, server.hash]).toEqual([client.sentBytes, client.sentHash]);
    expect(server).toMatchObject({ connections: 1, datagrams: client.datagramsSent });
    const ids = (all: readonly Conversation[]) => new Set(all.map(({ id }) => id));
    expect(ids(after)).toEqual(ids(before));
    expect(after).toHaveLength(2);
    expect(others).toEqual([]);
    expect(rule?.activity).toMatchObject({ conversations: 2, open: 2, refused: 0 });
  });
});

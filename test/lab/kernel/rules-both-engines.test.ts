/** One table that the kernel and the relay carry out together, with real packets: one order holds. */

import { beforeAll, expect, test } from 'vitest';
import { ADDRESSES, describeKernel } from './support/topology.ts';

const { router, router6, server, server6, behind, behind6, client, guest } = ADDRESSES;
const served = { port: 9001, ports: [9001, 9002, 9003] } as const;

describeKernel('kernel rules: together with the relay', (scene) => {
  beforeAll(() => scene().startAgent({ engine: 'auto' }));

  const engines = async (): Promise<readonly string[]> => (await scene().list()).map(({ engine }) => engine);

  test('a rule with the PROXY protocol stands between those of the kernel', async () => {
    await scene().rules(
      `in tcp 80 from ${guest} -> ${server}:9001`,
      `in tcp 80 -> ${server}:9002 proxy v1`,
      `in tcp 70-90 -> ${server}:9003`,
    );
    expect(await engines()).toEqual(['nftables', 'relay', 'nftables']);
    await using _ = await scene().server.serve(served);
    const above = await scene().client.ask(router, 80, { from: guest });
    expect(above).toMatchObject({ toPort: 9001, text: 'ask' });
    const between = await scene().client.ask(router, 80, { fromPort: 40_000 });
    expect(between).toMatchObject({ toPort: 9002, text: `PROXY TCP4 ${client} ${router} 40000 80` });
    expect(await scene().client.ask(router, 81)).toMatchObject({ toPort: 9003, text: 'ask' });
    expect(await scene().client.ask(router, 91)).toBe('refused');
    expect(await scene().router.ask(router, 80)).toMatchObject({ toPort: 9002 });
    expect((await scene().list()).map(({ activity }) => activity.conversations)).toEqual([1, 2, 1]);
  });

  test('beneath a rule that goes by the names of clients the relay has the same ports, and the kernel others', async () => {
    await scene().names({ 'pc.example.org': [client] });
    await scene().rules(
      `in tcp 80 from ${guest} -> :9001`,
      'in tcp 80 from .example.org -> :9002',
      'in tcp 80 -> :9003',
      'in tcp 81 -> :9003',
    );
    expect(await engines()).toEqual(['nftables', 'relay', 'relay', 'nftables']);
    await using _ = await scene().router.serve(served);
    expect(await scene().client.ask(router, 80, { from: guest })).toMatchObject({
      toPort: 9001,
      from: guest,
    });
    expect(await scene().client.ask(router, 80)).toMatchObject({ toPort: 9002 });
    expect(await scene().server.ask(behind, 80)).toMatchObject({ toPort: 9003 });
    expect(await scene().client.ask(router, 81)).toMatchObject({ toPort: 9003, from: client });
  });

  test.each(['tcp', 'udp'] as const)(
    'IPv6 becomes IPv4, and IPv4 IPv6, by the relay: %s',
    async (protocol) => {
      await scene().rules(
        `in ${protocol} [::]/0:80 -> ${server}:9001`,
        `in ${protocol} ${router}:80 -> [${server6}]:9002`,
        `in ${protocol} 81 -> ${server}:9003`,
      );
      expect(await engines()).toEqual(['relay', 'relay', 'nftables']);
      await using _ = await scene().server.serve({ ...served, protocol });
      const ask = (to: string, port: number) => scene().client.ask(to, port, { protocol });
      expect(await ask(router6, 80)).toMatchObject({ toPort: 9001, from: behind });
      expect(await ask(router, 80)).toMatchObject({ toPort: 9002, from: behind6 });
      expect(await ask(router, 81)).toMatchObject({ toPort: 9003, from: behind });
    },
  );

  test('a rule that turns to another target stands between those of the kernel', async () => {
    await scene().rules(
      `in tcp 79 -> ${server}:9003`,
      `in tcp 80 -> ${server}:9001 else ${server}:9002`,
      `in tcp * -> ${server}:9003`,
    );
    expect(await engines()).toEqual(['nftables', 'relay', 'nftables']);
    await using _ = await scene().server.serve({ port: 9002, ports: [9002, 9003] });
    expect(await scene().client.ask(router, 80)).toMatchObject({ toPort: 9002 });
    for (const port of [79, 8000]) {
      expect(await scene().client.ask(router, port)).toMatchObject({ toPort: 9003 });
    }
  });

  test('what is moved from one engine’s place to the other’s is for what begins then', async () => {
    await scene().rules(
      { rule: `in tcp 80 -> ${server}:9001 proxy v1`, id: 'relay' },
      { rule: `in tcp 79-80 -> ${server}:9002`, id: 'kernel' },
    );
    await using _ = await scene().server.serve(served);
    await using relayed = await scene().client.open(router, 80);
    expect(relayed.first).toMatchObject({ toPort: 9001 });
    await scene().run(['rule', 'move', 'relay']);
    await using steered = await scene().client.open(router, 80);
    expect(steered.first).toMatchObject({ toPort: 9002 });
    await scene().run(['rule', 'disable', 'kernel']);
    expect(await scene().client.ask(router, 80)).toMatchObject({ toPort: 9001 });
    expect(await relayed.say('on')).toMatchObject({ toPort: 9001 });
    expect(await steered.say('on')).toMatchObject({ toPort: 9002, text: 'on' });
  });

  test('the kernel alone says what it cannot carry, and what would help', async () => {
    await scene().startAgent({ engine: 'nftables' });
    const { code, stderr } = await scene().natward(['rule', 'add', `in tcp 80 -> ${server}:9001 proxy v1`]);
    expect(code).not.toBe(0);
    expect(stderr).toContain('the kernel writes no headers into a stream');
    expect(stderr).toContain('The relay can');
    expect(await scene().list()).toEqual([]);
  });
});

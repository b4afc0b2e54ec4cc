/** Many leases, many restarts, many lost packets: in the end the gateway has what is wanted, once, and nothing else. */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Keeping, startAgent, stopwatch, until, untilRules } from './support/keeping.ts';
import type { NatRule } from './support/lab.ts';
import { describeLab, freshHome, rowsOf, rule, run } from './support/suite.ts';

const MANY = 1_000;
const RESTARTS = 50;
/** Between two restarts: too short for the larger part of what is to be restored. */
const LIFE_MS = 1_000;
const LOSS_PERCENT = 30;
/** What a gateway has refused while it was starting is asked for again after 30 s, then a minute. */
const SETTLE_LIMIT_MS = 120_000;
const SOAK_LIMIT_MS = 240_000;
/** Sockets of a conversation that is about to end beside those of the next. */
const SPARE_FILES = 12;

describeLab('soak', {}, (lab) => {
  let agents: Keeping[] = [];
  let home: { readonly home: string };

  beforeEach(() => {
    agents = [];
    home = freshHome();
  });
  afterEach(async () => {
    await Promise.all(agents.map((agent) => agent.end('SIGKILL')));
  });

  const agent = async (): Promise<Keeping> => {
    const started = await startAgent(lab(), home);
    agents.push(started);
    return started;
  };

  test('a thousand leases come back', async () => {
    const gateway = await lab().startGateway({ quiet: true });
    const daemon = await agent();
    const wanted = Array.from({ length: MANY }, (_, at) => rule('tcp', 20_000 + at));
    const first = stopwatch(`${MANY} leases`, 'silent');
    await run(lab(), ['keep', `20000-${19_999 + MANY}`, '--timeout', '60s'], { ...home, timeoutMs: 90_000 });
    first('kept for the first time');
    await untilRules(lab(), wanted);
    await delay(3_000);
    await gateway.stop();
    await lab().wipeTable();
    const again = stopwatch(`${MANY} leases`, 'announced');
    await gateway.start();
    await until('the first of them', async () => (await lab().natRules()).length > 0);
    again('the first is back');
    await untilRules(lab(), wanted, { limitMs: SETTLE_LIMIT_MS });
    again('the last is back');
    const end = stopwatch(`${MANY} leases`, 'announced');
    expect((await daemon.end('SIGTERM')).code).toBe(0);
    end(`released, but for ${(await lab().natRules()).length}`);
  });

  test(
    `the gateway is killed and started ${RESTARTS} times, and ${LOSS_PERCENT} % of all packets are lost`,
    async () => {
      const gateway = await lab().startGateway({ quiet: true });
      const daemon = await agent();
      await run(lab(), ['keep', '8080', '6881/tcp+udp', '7000-7004'], home);
      for (const [port, via] of [
        ['8100', 'pcp'],
        ['8200', 'natpmp'],
        ['8300', 'upnp'],
      ] as const) {
        await run(lab(), ['keep', port, '--via', via], home);
      }
      const tcp = [6881, 7000, 7001, 7002, 7003, 7004, 8080, 8100, 8200, 8300].map((port) =>
        rule('tcp', port),
      );
      const wanted = [tcp[0] as NatRule, rule('udp', 6881), ...tcp.slice(1)];
      await untilRules(lab(), wanted);
      const filesBefore = openFiles(daemon);
      const bytesBefore = residentMb(daemon);

      for (const protocol of ['pcp', 'natpmp', 'ssdp', 'http'] as const) {
        await lab().block({ protocol, lossPercent: LOSS_PERCENT });
        await lab().block({ protocol, lossPercent: LOSS_PERCENT, lose: 'replies' });
      }
      await lab().block({ protocol: 'announcements', lossPercent: LOSS_PERCENT });
      for (let restarts = 0; restarts < RESTARTS; restarts++) {
        await gateway.stop('SIGKILL');
        await lab().wipeTable();
        await gateway.start();
        await delay(LIFE_MS * Math.random() * 2);
      }
      await lab().unblock();
      const watch = stopwatch(`${RESTARTS} restarts with ${LOSS_PERCENT} % loss`, 'silent');
      await untilRules(lab(), wanted, { limitMs: SETTLE_LIMIT_MS });
      watch('all are there');
      expect(await rowsOf(lab())).toEqual(wanted);

      const events = daemon.events.length;
      console.log(
        `${events} events, ${bytesBefore} MB before and ${residentMb(daemon)} MB after, ${filesBefore} files and ${openFiles(daemon)}`,
      );
      expect(openFiles(daemon)).toBeLessThanOrEqual(filesBefore + SPARE_FILES);
      expect((await daemon.end('SIGTERM')).code).toBe(0);
      expect(await lab().natRules()).toEqual([]);
    },
    SOAK_LIMIT_MS,
  );
});

function openFiles({ process: { pid } }: Keeping): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function residentMb({ process: { pid } }: Keeping): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024);
}

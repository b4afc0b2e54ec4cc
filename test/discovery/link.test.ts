import { describe, expect, test } from 'vitest';
import { GRANT_SCHEDULE, type LinkMessage, PROBE_SCHEDULE } from '../../src/discovery/link.ts';
import { encodeNatpmpRequest, encodeNatpmpResponse } from '../../src/wire/natpmp.ts';
import type { Junk } from '../../src/responder/quirks/misbehaviour.ts';
import { PcpMapper } from '../../src/mapping/pcp.ts';
import { NatpmpMapper } from '../../src/mapping/natpmp.ts';
import { requestFor } from '../mapping/support.ts';
import { linkedGateway, linkTo, openPeer } from './support.ts';

const ASK = encodeNatpmpRequest({ opcode: 'address' });
const ANSWER = encodeNatpmpResponse({
  opcode: 'address',
  result: 0,
  epochSeconds: 7,
  externalAddress: '203.0.113.7',
});

function anyAddress(message: LinkMessage): string | undefined {
  return message.opcode === 'address' ? message.externalAddress : undefined;
}

/** All but the echo are forged with another external port; the echo is our own request. */
const JUNK: readonly Junk[] = [
  'truncated',
  'oversized',
  'wrong-nonce',
  'wrong-source',
  'wrong-opcode',
  'request-echo',
];

describe.each(JUNK)('a reply that is junk (%s)', (junk) => {
  test('is dropped and counted, and the right answer of PCP is still taken', async () => {
    const { gateway, link, clock, system, embedded } = await linkedGateway({ quirks: { junkFirst: [junk] } });
    const mapper = new PcpMapper({ protocol: 'pcp', gateway, link, epochSeconds: 0 }, system);
    const mapping = await clock.settle(mapper.map(requestFor({ internalPort: 8080 })));
    expect(mapping.externalPort).toBe(embedded.table[0]?.externalPort);
    expect(link.dropped).toBe(1);
    expect(embedded.counters).toEqual({ 'pcp map': 1 });
  });

  test('is dropped and counted, and the right answer of NAT-PMP is still taken', async () => {
    const { gateway, link, clock, embedded } = await linkedGateway({ quirks: { junkFirst: [junk] } });
    const offer = { protocol: 'natpmp', gateway, link, epochSeconds: 0, externalAddress: undefined } as const;
    const mapping = await clock.settle(
      new NatpmpMapper(offer, clock).map(requestFor({ internalPort: 8080 })),
    );
    expect(mapping.externalPort).toBe(embedded.table[0]?.externalPort);
    expect(link.dropped).toBe(1);
    expect(embedded.counters).toEqual({ 'natpmp map': 1 });
  });
});

describe('a link', () => {
  test('takes the right answer among all kinds of junk at once', async () => {
    const { gateway, link, clock, system, embedded } = await linkedGateway({ quirks: { junkFirst: JUNK } });
    const mapper = new PcpMapper({ protocol: 'pcp', gateway, link, epochSeconds: 0 }, system);
    const mapping = await clock.settle(mapper.map(requestFor()));
    expect(mapping.externalPort).toBe(embedded.table[0]?.externalPort);
    expect(link.dropped).toBe(JUNK.length);
  });

  test('does not take an answer from another port of the same host', async () => {
    const stranger = await openPeer();
    const peer = await openPeer((_packet, from) => void stranger.send(ANSWER, from));
    const { link, clock } = await linkTo(peer);
    const asking = link.request(ASK, anyAddress, PROBE_SCHEDULE, {});
    await expect(clock.settle(asking)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(link.dropped).toBe(5);
  });

  test('counts what comes when nothing was asked', async () => {
    const peer = await openPeer();
    const { link, clock } = await linkTo(peer);
    await clock
      .settle(link.request(ASK, anyAddress, { sendAtMs: [0], deadlineMs: 10 }, {}))
      .catch(() => undefined);
    const from = peer.heard[0]?.from;
    if (from !== undefined) await peer.send(ANSWER, from);
    await clock.advance(0);
    expect(link.dropped).toBe(1);
  });

  test('hands each answer to the one request that accepts it', async () => {
    const peer = await openPeer((_packet, from) => {
      if (peer.heard.length === 2) void peer.send(ANSWER, from).then(() => peer.send(ANSWER, from));
    });
    const { link, clock } = await linkTo(peer);
    const both = Promise.all([
      link.request(ASK, anyAddress, PROBE_SCHEDULE, {}),
      link.request(ASK, anyAddress, PROBE_SCHEDULE, {}),
    ]);
    expect(await clock.settle(both)).toEqual(['203.0.113.7', '203.0.113.7']);
    expect(link.dropped).toBe(0);
  });

  test.each([
    ['PROBE_SCHEDULE', PROBE_SCHEDULE],
    ['GRANT_SCHEDULE', GRANT_SCHEDULE],
  ])('sends by the %s, and gives up at its deadline', async (_name, schedule) => {
    const peer = await openPeer();
    const { link, clock } = await linkTo(peer);
    const startMs = clock.now();
    const sentAtMs: number[] = [];
    const asking = link.request(ASK, anyAddress, schedule, {}).catch((error: { code: string }) => error.code);
    for (let atMs = 0; atMs < schedule.deadlineMs; atMs += 50) {
      await clock.advance(atMs === 0 ? 0 : 50);
      while (sentAtMs.length < peer.heard.length) sentAtMs.push(clock.now() - startMs);
    }
    expect(sentAtMs).toEqual(schedule.sendAtMs);
    expect(clock.pending).toBe(1);
    await clock.advance(50);
    expect(await asking).toBe('TIMEOUT');
    expect(clock.pending).toBe(0);
  });

  test('`enough` ends the sending, and an answer is still taken', async () => {
    const peer = await openPeer();
    const { link, clock } = await linkTo(peer);
    const enough = new AbortController();
    const asking = link.request(ASK, anyAddress, PROBE_SCHEDULE, { enough: enough.signal });
    await clock.advance(50);
    enough.abort();
    await clock.advance(1500);
    expect(peer.heard.length).toBe(1);
    await peer.send(ANSWER, (peer.heard[0] as (typeof peer.heard)[0]).from);
    expect(await clock.settle(asking)).toBe('203.0.113.7');
  });

  test('a request that was aborted before sends nothing', async () => {
    const peer = await openPeer();
    const { link, clock } = await linkTo(peer);
    const asking = link.request(ASK, anyAddress, PROBE_SCHEDULE, { signal: AbortSignal.abort() });
    await expect(asking).rejects.toMatchObject({ code: 'ABORTED' });
    await clock.advance(1000);
    expect(peer.heard).toEqual([]);
  });

  test('an abort ends the waiting at once and leaves no timer behind', async () => {
    const peer = await openPeer();
    const { link, clock } = await linkTo(peer);
    const stop = new AbortController();
    const asking = link.request(ASK, anyAddress, PROBE_SCHEDULE, { signal: stop.signal });
    await clock.advance(50);
    stop.abort();
    await expect(asking).rejects.toMatchObject({ code: 'ABORTED' });
    await clock.advance(0);
    expect(clock.pending).toBe(0);
  });

  test('a refusal ends all requests, and those that come later', async () => {
    const { link, clock } = await linkedGateway({ protocols: ['upnp'] });
    const ask = () =>
      link.request(ASK, anyAddress, PROBE_SCHEDULE, {}).catch((error: { code: string }) => error.code);
    expect(await clock.settle(Promise.all([ask(), ask()]))).toEqual(['UNREACHABLE', 'UNREACHABLE']);
    expect(await ask()).toBe('UNREACHABLE');
  });

  test('closing it ends what is asked with ABORTED', async () => {
    const peer = await openPeer();
    const { link } = await linkTo(peer);
    const asking = link.request(ASK, anyAddress, PROBE_SCHEDULE, {});
    const ended = expect(asking).rejects.toMatchObject({ code: 'ABORTED' });
    await link[Symbol.asyncDispose]();
    await ended;
  });
});

describe('the pace of a link', () => {
  /** A gateway that takes `ms` for each answer; what is asked when is in `sentAtMs`. */
  async function slowGateway(ms: number) {
    const sentAtMs: number[] = [];
    const peer = await openPeer((_packet, from) => {
      sentAtMs.push(clock.now() - startMs);
      void clock.sleep(ms).then(() => peer.send(ANSWER, from));
    });
    const { link, clock } = await linkTo(peer);
    const startMs = clock.now();
    return { link, clock, sentAtMs };
  }

  test('stretches the schedule where the gateway is known to take long', async () => {
    const { link, clock, sentAtMs } = await slowGateway(200);
    const ask = () => clock.settle(link.request(ASK, anyAddress, GRANT_SCHEDULE, {}));
    await ask();
    await ask();
    expect(sentAtMs.length).toBe(2);
    // 200 ms and four times the variation of 75 ms: the first repetition is after 500 ms and not after 250.
    const before = clock.now();
    const third = link.request(ASK, () => undefined, GRANT_SCHEDULE, {}).catch(() => clock.now() - before);
    await clock.advance(499);
    expect(sentAtMs.length).toBe(3);
    await clock.advance(1);
    expect(sentAtMs.length).toBe(4);
    expect(await clock.settle(third)).toBe(6000);
  });

  test('keeps the schedule where the gateway is quick', async () => {
    const { link, clock, sentAtMs } = await slowGateway(1);
    await clock.settle(link.request(ASK, anyAddress, GRANT_SCHEDULE, {}));
    void link.request(ASK, () => undefined, GRANT_SCHEDULE, {}).catch(() => undefined);
    await clock.advance(250);
    expect(sentAtMs).toEqual([0, 1, 251]);
  });

  test('learns nothing from answers to requests that were sent more than once (Karn)', async () => {
    const { link, clock, sentAtMs } = await slowGateway(300);
    await clock.settle(link.request(ASK, anyAddress, GRANT_SCHEDULE, {}));
    await clock.advance(500);
    const count = sentAtMs.length;
    void link.request(ASK, () => undefined, GRANT_SCHEDULE, {}).catch(() => undefined);
    await clock.advance(250);
    expect(sentAtMs.length - count).toBe(2);
  });
});

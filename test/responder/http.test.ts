import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { EmbeddedGateway } from '../../src/responder/gateway.ts';
import { HttpListener } from '../../src/responder/http-listener.ts';
import { plainAnswer } from '../../src/responder/http-reply.ts';
import { decodeSoapReply, encodeSoapCall, soapAction } from '../../src/wire/soap.ts';
import { http, INNER } from './support/client.ts';
import { upnpFor } from './support/bare-site.ts';
import { gatewayFor } from './support/gateway.ts';

const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:1';
const ACTION = 'GetExternalIPAddress';
const BODY = encodeSoapCall({ serviceType: SERVICE, action: ACTION, values: {} });
const call = (...headers: string[]) =>
  [
    'POST /control/WANIPConnection HTTP/1.1',
    'Host: 127.0.0.1',
    `SOAPACTION: ${soapAction(SERVICE, ACTION)}`,
    ...headers,
    '\r\n',
  ].join('\r\n');
const CALL = call(`Content-Length: ${BODY.length}`) + BODY;

/** A client that writes bytes as it likes. */
class Wire {
  text = '';
  isClosed = false;
  readonly #socket: Socket;

  constructor(port: number, from: string) {
    this.#socket = connect({ host: INNER, port, localAddress: from });
    this.#socket.on('data', (chunk) => {
      this.text += chunk.toString();
    });
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      this.isClosed = true;
    });
    onTestFinished(() => {
      this.#socket.destroy();
    });
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  end(): void {
    this.#socket.end();
  }

  get statuses(): number[] {
    return [...this.text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
  }

  answered(...statuses: number[]): Promise<void> {
    return until(
      () => this.statuses.join(' ') === statuses.join(' '),
      () => `${this.statuses.join(' ')} came`,
    );
  }

  closed(): Promise<void> {
    return until(
      () => this.isClosed,
      () => 'it is still open',
    );
  }
}

async function until(happened: () => boolean, otherwise: () => string): Promise<void> {
  for (let tries = 0; !happened(); tries++) {
    if (tries === 1_000) throw new Error(otherwise());
    await sleep(2);
  }
}

const wireTo = (gateway: EmbeddedGateway, from = INNER) => new Wire(gateway.ports.http, from);

describe('a connection', () => {
  test('serves one request after the other, in their order, however they come', async () => {
    const gateway = await gatewayFor();
    const wire = wireTo(gateway);
    wire.write(`${CALL}GET /nowhere HTTP/1.1\r\n\r\n\r\n${CALL}`);
    await wire.answered(200, 404, 200);
    for (const byte of CALL) wire.write(byte);
    await wire.answered(200, 404, 200, 200);
    expect(wire.isClosed).toBe(false);
    wire.write('GET /rootDesc.xml HTTP/1.1\r\nConnection: close\r\n\r\n');
    await wire.answered(200, 404, 200, 200, 200);
    await wire.closed();
  });

  test('takes a body in chunks', async () => {
    const wire = wireTo(await gatewayFor());
    const chunks = [BODY.slice(0, 7), BODY.slice(7)].map(
      (part) => `${part.length.toString(16)}\r\n${part}\r\n`,
    );
    wire.write(`${call('Transfer-Encoding: chunked') + chunks.join('')}0\r\n\r\n`);
    await wire.answered(200);
    wire.write(CALL);
    await wire.answered(200, 200);
  });

  test('says that a body may come to whoever waits for that', async () => {
    const wire = wireTo(await gatewayFor());
    wire.write(call(`Content-Length: ${BODY.length}`, 'Expect: 100-continue'));
    await wire.answered(100);
    wire.write(BODY);
    await wire.answered(100, 200);
  });

  test('answers a client that has closed its half', async () => {
    const wire = wireTo(await gatewayFor());
    wire.write(CALL);
    wire.end();
    await wire.answered(200);
    await wire.closed();
  });

  test('of HTTP/1.0 ends with its answer', async () => {
    const wire = wireTo(await gatewayFor());
    wire.write('GET /rootDesc.xml HTTP/1.0\r\n\r\n');
    await wire.answered(200);
    await wire.closed();
  });

  test.each([
    ['no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n', 400],
    ['two lengths', call('Content-Length: 1', 'Content-Length: 2'), 400],
    ['a length and chunks', call('Content-Length: 1', 'Transfer-Encoding: chunked'), 400],
    ['a head without an end', `GET / HTTP/1.1\r\nX: ${'x'.repeat(17_000)}`, 431],
    ['too much', call('Content-Length: 65537'), 413],
    ['too much in chunks', `${call('Transfer-Encoding: chunked')}10001\r\n${'x'.repeat(65_537)}\r\n`, 413],
    [
      'a chunk that never ends',
      `${call('Transfer-Encoding: chunked')}FFFFFFF\r\n${'x'.repeat(270_000)}`,
      413,
    ],
  ])('with %s is told so and ends', async (_what, text, status) => {
    const wire = wireTo(await gatewayFor());
    wire.write(text);
    await wire.answered(status);
    wire.end();
    await wire.closed();
  });
});

describe('time', () => {
  const LIMITS = { requestMs: 300, idleMs: 200, watchMs: 20 };

  async function listened(): Promise<Wire> {
    const host = { admits: () => true, serve: async () => plainAnswer(200), headers: {} };
    const listener = await HttpListener.open({ address: INNER, port: 0 }, host, LIMITS);
    onTestFinished(() => listener.close());
    return new Wire(listener.port, INNER);
  }

  test.each([
    ['says nothing', ''],
    ['never ends its head', 'GET / HTTP/1.1\r\n'],
    ['never ends its body', call('Content-Length: 100')],
  ])('a client that %s is cut, however it drips', async (_what, text) => {
    const wire = await listened();
    wire.write(text);
    for (let drops = 0; !wire.isClosed; drops++) {
      if (drops === 90) throw new Error('it is still open');
      if (text !== '') wire.write('x');
      await sleep(20);
    }
    expect(wire.statuses).not.toContain(200);
  });

  test('one that asks no more is cut', async () => {
    const wire = await listened();
    wire.write('GET / HTTP/1.1\r\n\r\n');
    await wire.answered(200);
    await wire.closed();
  });
});

describe('how many', () => {
  test('one client has 32 connections at most, and others have theirs', async () => {
    const gateway = await gatewayFor();
    const wires = Array.from({ length: 40 }, () => wireTo(gateway));
    await expect.poll(() => wires.filter(({ isClosed }) => isClosed).length).toBe(8);
    expect((await http(gateway.location, { from: '127.0.0.7' })).status).toBe(200);
    wires.find(({ isClosed }) => !isClosed)?.end();
    await expect.poll(async () => (await http(gateway.location).catch(() => undefined))?.status).toBe(200);
  });

  test('all together have 256, and then the one that is idle for longest makes room', async () => {
    const gateway = await gatewayFor();
    const wires: Wire[] = [];
    for (let host = 1; host <= 8; host++) {
      for (let count = 0; count < 32; count++) wires.push(wireTo(gateway, `127.0.3.${host}`));
      wires.at(-1)?.write(CALL);
      await wires.at(-1)?.answered(200);
    }
    expect(wires.filter(({ isClosed }) => isClosed)).toEqual([]);
    expect((await http(gateway.location, { from: '127.0.3.9' })).status).toBe(200);
    await expect.poll(() => wires.map(({ isClosed }) => isClosed).indexOf(true)).toBe(0);
    expect(wires.filter(({ isClosed }) => isClosed)).toHaveLength(1);
  });
});

describe('whom the guard does not admit', () => {
  test('is not connected', async () => {
    const asked: string[] = [];
    const guard = { admits: (source: string) => asked.push(source) > 1 };
    const { location, site } = await upnpFor(guard, '203.0.113.7');
    await expect(http(location)).rejects.toThrow(/socket hang up|ECONNRESET/);
    expect((await http(location, { from: '127.0.0.6' })).status).toBe(200);
    expect(asked).toEqual([INNER, '127.0.0.6']);
    expect(site.counters.snapshot()).toEqual({ 'http GET /rootDesc.xml': 1 });
  });

  test('is counted once a request, and cut in the middle of a connection', async () => {
    let left = 3;
    const { location, site } = await upnpFor({ admits: () => left-- > 0 }, '203.0.113.7');
    const wire = new Wire(Number(new URL(location).port), INNER);
    for (const answers of [[200], [200, 200], [200, 200, 200]]) {
      wire.write(CALL);
      await wire.answered(...answers);
    }
    wire.write(CALL);
    await wire.closed();
    expect(wire.statuses).toEqual([200, 200, 200]);
    expect(site.counters.snapshot()).toEqual({ 'soap GetExternalIPAddress': 3 });
  });
});

test('without an external address the connection is down, and the address is empty', async () => {
  const { location } = await upnpFor({ admits: () => true }, undefined);
  const values = async (service: string, action: string) => {
    const serviceType = `urn:schemas-upnp-org:service:${service}:1`;
    const headers = { SOAPACTION: soapAction(serviceType, action) };
    const body = encodeSoapCall({ serviceType, action, values: {} });
    const answer = await http(new URL(`/control/${service}`, location).href, {
      method: 'POST',
      headers,
      body,
    });
    return decodeSoapReply(answer.body);
  };
  // WANIPConnection:2, section 2.3.13.
  expect(await values('WANIPConnection', ACTION)).toMatchObject({ values: { NewExternalIPAddress: '' } });
  expect(await values('WANIPConnection', 'GetStatusInfo')).toMatchObject({
    values: { NewConnectionStatus: 'Disconnected', NewUptime: '0' },
  });
  expect(await values('WANCommonInterfaceConfig', 'GetCommonLinkProperties')).toMatchObject({
    values: { NewPhysicalLinkStatus: 'Down' },
  });
});

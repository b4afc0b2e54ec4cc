import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { isListenedAt } from '../../src/system/listeners.ts';

async function tcp(address: string): Promise<number> {
  const server = createServer().listen(0, address);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function udp(): Promise<number> {
  const socket = createSocket('udp4').bind(0);
  await once(socket, 'listening');
  onTestFinished(() => void socket.close());
  return socket.address().port;
}

test.runIf(process.platform === 'linux')(
  'a program that waits for others is seen, of its protocol alone',
  async () => {
    const [onAll, onSix, datagrams] = [await tcp('0.0.0.0'), await tcp('::'), await udp()];
    expect([onAll, onSix].map((port) => isListenedAt('tcp', port))).toEqual([true, true]);
    expect([isListenedAt('udp', datagrams), isListenedAt('tcp', datagrams)]).toEqual([true, false]);
  },
);

test('one that only this machine reaches is not', async () => {
  expect(isListenedAt('tcp', await tcp('127.0.0.1'))).toBe(false);
});

test('a system that does not tell has none', () => {
  expect(isListenedAt('tcp', 80, '/nowhere')).toBe(false);
});

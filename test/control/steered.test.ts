import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { FOREGROUND_RULES } from '../../src/agent/rule-memory.ts';
import type { Steering } from '../../src/agent/steering.ts';
import { startSteering } from '../../src/control/steered.ts';
import type { EngineEvent } from '../../src/forwarder/engine.ts';
import { readHostsFiles } from '../../src/system/hosts-files.ts';
import { realSystem } from '../../src/system/system.ts';

const DRAIN = { conversations: 'drain', dryRun: false } as const;

async function started(): Promise<Steering> {
  const steering = await startSteering(
    realSystem,
    FOREGROUND_RULES,
    (_key, error) => {
      if (error !== undefined) throw error;
    },
    'relay',
  );
  onTestFinished(() => steering[Symbol.asyncDispose]());
  return steering;
}

async function echo(): Promise<number> {
  const server = createServer((socket) => void socket.on('error', () => undefined).pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** One that nobody has just now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.2');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function said(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.2');
  onTestFinished(() => void socket.destroy());
  socket.end(text);
  let back = '';
  for await (const chunk of socket) back += String(chunk);
  return back;
}

test('a rule of this process carries real bytes, says what happens, and ends with it', async () => {
  const steering = await started();
  const [target, port] = [await echo(), await freePort()];
  const rule = `in tcp 127.0.0.2:${port} -> 127.0.0.1:${target}`;
  await steering.edit({ kind: 'add', rules: [{ id: 'web', rule }] }, DRAIN);
  const stop = new AbortController();
  const events: EngineEvent[] = [];
  const reading = (async () => {
    for await (const event of steering.follow(stop.signal, 'web')) events.push(event);
  })();
  expect(await said(port, 'hello')).toBe('hello');
  await vi.waitFor(() => expect(events.map(({ type }) => type)).toEqual(['opened', 'closed']));
  stop.abort();
  await reading;
  const activity = expect.objectContaining({ bytesIn: 5, bytesOut: 5, conversations: 1, open: 0 });
  expect(await steering.rules()).toMatchObject([{ id: 'web', engine: 'relay', waiting: null, activity }]);
  const packet = {
    direction: 'in',
    protocol: 'tcp',
    source: { address: '127.0.0.3', port: 50_000 },
    destination: { address: '127.0.0.2', port },
  } as const;
  expect(await steering.explain(packet)).toMatchObject({ rule: { id: 'web' }, refusal: null });
  await steering.close(1000);
  await expect(said(port, 'hello')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test('the port on which natward hears announcements is its own', async () => {
  const steering = await started();
  const adding = steering.edit({ kind: 'add', rules: [{ rule: 'in udp 5350 -> 10.0.0.5:80' }] }, DRAIN);
  await expect(adding).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('hears the gateway’s announcements'),
  });
});

test('what goes in a circle through addresses of this host is refused', async () => {
  const steering = await started();
  const port = await freePort();
  const rules = [
    { rule: `in tcp 127.0.0.2:${port} -> 127.0.0.3:${port}` },
    { rule: `in tcp 127.0.0.3:${port} -> 127.0.0.2:${port}` },
  ];
  await expect(steering.edit({ kind: 'add', rules }, DRAIN)).rejects.toMatchObject({
    message: expect.stringMatching(/^target: loop/),
  });
});

test('hosts.allow and hosts.deny are this machine’s, and empty where they are absent', () => {
  const textOf = (path: string) => (existsSync(path) ? readFileSync(path, 'latin1') : '');
  expect(readHostsFiles()).toEqual({
    allow: textOf('/etc/hosts.allow'),
    deny: textOf('/etc/hosts.deny'),
  });
});

import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { Agent, type AgentOptions } from '../../src/library/agent.ts';
import type { EngineEvent } from '../../src/forwarder/engine.ts';
import { realSceneFor } from './support.ts';

function agentFor(options: AgentOptions = {}): Agent {
  const agent = new Agent(options);
  onTestFinished(() => agent[Symbol.asyncDispose]());
  return agent;
}

async function echo(address = '127.0.0.1'): Promise<number> {
  const server = createServer((socket) => void socket.on('error', () => undefined).pipe(socket));
  server.listen(0, address);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** One that nobody has just now. */
async function freePort(address = '127.0.0.2'): Promise<number> {
  const server = createServer().listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function said(address: string, port: number, text: string): Promise<string> {
  const socket = connect(port, address);
  onTestFinished(() => void socket.destroy());
  socket.end(text);
  let back = '';
  for await (const chunk of socket) back += String(chunk);
  return back;
}

test('a rule carries real bytes until it is removed', async () => {
  const { rules } = agentFor();
  const [target, port] = [await echo(), await freePort()];
  const text = `in tcp 127.0.0.2:${port} -> 127.0.0.1:${target}`;
  const rule = await rules.add(text, { id: 'web', description: 'of a test' });
  expect(rule).toMatchObject({ id: 'web', position: 1, waiting: null });
  expect(await said('127.0.0.2', port, 'hello')).toBe('hello');
  expect(await rules.list()).toMatchObject([
    { id: 'web', owner: 'user', engine: 'relay', description: 'of a test', activity: { bytesIn: 5 } },
  ]);
  await rules.remove('web');
  expect(await rules.list()).toEqual([]);
  await expect(said('127.0.0.2', port, 'hello')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test('rules stand where they are put, and say which decides', async () => {
  const { rules } = agentFor();
  const port = await freePort();
  const below = await rules.add(`in tcp 127.0.0.2:${port} -> 127.0.0.1:9`);
  await rules.add(`in tcp 127.0.0.2:${port} from 127.9.9.9 -> 127.0.0.1:8`, {
    id: 'first',
    before: below.id,
  });
  expect((await rules.list()).map(({ id }) => id)).toEqual(['first', below.id]);
  const packet = {
    direction: 'in',
    protocol: 'tcp',
    source: { address: '127.9.9.9', port: 4711 },
    destination: { address: '127.0.0.2', port },
  } as const;
  expect((await rules.explain(packet)).rule?.id).toBe('first');
});

test('conversations are told as they come, until the loop is left', async () => {
  const { rules } = agentFor();
  const [target, port] = [await echo(), await freePort()];
  await rules.add(`in tcp 127.0.0.2:${port} -> 127.0.0.1:${target}`, { id: 'web' });
  const events: EngineEvent['type'][] = [];
  const following = (async () => {
    for await (const event of rules.follow({ id: 'web' })) {
      events.push(event.type);
      if (event.type === 'closed') break;
    }
  })();
  await said('127.0.0.2', port, 'hello');
  await following;
  expect(events).toEqual(['opened', 'closed']);
  expect(await rules.conversations()).toEqual([]);
});

test('what is no rule is refused, and what is aborted leaves none behind', async () => {
  const { rules } = agentFor();
  await expect(rules.add('open sesame')).rejects.toMatchObject({ code: 'USAGE' });
  await expect(rules.remove('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const stop = new AbortController();
  const adding = rules.add(`in tcp 127.0.0.2:${await freePort()} -> 127.0.0.1:9`, { signal: stop.signal });
  stop.abort();
  await expect(adding).rejects.toMatchObject({ code: 'ABORTED' });
  expect(await rules.list()).toEqual([]);
});

test('disposing of the agent ends its rules', async () => {
  const agent = agentFor();
  const port = await freePort();
  await agent.rules.add(`in tcp 127.0.0.2:${port} -> 127.0.0.1:9`);
  await agent[Symbol.asyncDispose]();
  await expect(said('127.0.0.2', port, 'hello')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test('a lease for another host is carried on from here where the gateway maps to this host alone', async () => {
  // The relay takes what is sent to an address that this host has.
  const { embedded, system, ports } = await realSceneFor({ address: '127.0.0.1', carriesTraffic: true });
  const agent = agentFor({ system, ports });
  // The port is taken here: it is carried from another one.
  const target = await echo('0.0.0.0');
  const lease = await agent.keep({ internalPort: target, host: '127.0.0.4', externalPort: 0 });
  expect(lease).toMatchObject({ state: 'held', internalPort: target });
  expect(lease.mappings[0]?.target).toEqual({ address: '127.0.0.4', port: target });
  const { externalAddress, externalPort } = lease;
  expect(await said(externalAddress as string, externalPort as number, 'through')).toBe('through');
  const rule = (await agent.rules.list())[0];
  expect(rule?.owner).toBe('lease');
  await expect(agent.rules.remove(rule?.id as string)).rejects.toMatchObject({
    code: 'NOT_OWN',
    advice: 'Releasing the lease ends the rule with it.',
  });
  await lease.release();
  expect(embedded.table).toEqual([]);
  expect(await agent.rules.list()).toEqual([]);
});

/** Hooks of intents and of the configuration, on a real keeper before the embedded gateway. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { runHooks } from '../../src/control/hooked.ts';
import { realSystem } from '../../src/system/system.ts';
import { keeperFor, requestOf } from '../agent/keeping.ts';

interface Ear {
  readonly url: string;
  readonly heard: string[];
}

/** A web service that writes down the type of each event that it is told. */
async function listening(): Promise<Ear> {
  const heard: string[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (text: string) => {
      body += text;
    });
    request.on('end', () => {
      const event: { type: string } = JSON.parse(body);
      heard.push(event.type);
      response.end();
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, heard };
}

test('a lease’s events go to its own hooks and to those of the configuration, and to nobody else’s', async () => {
  const { keeper, clock, embedded, pass, keep } = await keeperFor();
  const [own, others, all] = await Promise.all([listening(), listening(), listening()]);
  const hooks = runHooks(realSystem, keeper, '0', () => [{ kind: 'webhook', url: all.url }]);
  onTestFinished(() => hooks.close());
  await keep(['8443'], { hooks: [{ kind: 'webhook', url: own.url }] });
  const elsewhere = {
    ...requestOf('9000'),
    gateway: '127.0.0.9',
    hooks: [{ kind: 'webhook', url: others.url }],
  } as const;
  const options = { owner: 'user', timeoutMs: 1000, signal: new AbortController().signal };
  await clock.settle(keeper.keep([elsewhere], options));
  embedded.changeExternalAddress('198.51.100.77');
  await pass(15_000);
  await expect.poll(() => own.heard).toContain('address-changed');
  await expect.poll(() => all.heard).toContain('address-changed');
  expect(own.heard[0]).toBe('granted');
  expect(others.heard).toEqual([]);
});

/** GUPnP behind natward: it is found, says what changes as events, and libgupnp-igd keeps a mapping by it. */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type InnerGateway, leads, outerRule, startResponding, untilOuter } from '../support/inner.ts';
import { until } from '../support/keeping.ts';
import { ADDRESSES } from '../support/lab.ts';
import type { LabProcess } from '../support/processes.ts';
import { describeLab } from '../support/suite.ts';

/** What its packages of Debian are made for. */
const PYTHON = '/usr/bin/python3';
const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:2';
const EVENTS = fileURLToPath(new URL('gupnp/events.py', import.meta.url));
const ADD_PORT = fileURLToPath(new URL('gupnp/add_port.py', import.meta.url));
const IMPORTS = `
import gi
gi.require_version("GUPnP", "1.6")
gi.require_version("GUPnPIgd", "1.0")
`;

const { inner1, external } = ADDRESSES;
const lacksGupnp = spawnSync(PYTHON, ['-c', IMPORTS]).status !== 0;
const lacksTools = !(process.env['PATH'] ?? '')
  .split(delimiter)
  .some((folder) => existsSync(join(folder, 'gssdp-discover')));

describeLab('GUPnP behind natward', { inner: true }, (lab) => {
  let gateway: InnerGateway;
  beforeAll(async () => {
    await lab().startGateway();
    gateway = await startResponding(lab());
  });
  afterAll(() => gateway.stop());

  test.skipIf(lacksTools)('gssdp-discover finds the device where natward is', async () => {
    const target = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1';
    const search = lab().spawn('inner1', ['gssdp-discover', '-i', 'eth0', '-t', target]);
    await search.waitFor(/Location: http:\/\/10\.77\.0\.1:\d+\/rootDesc\.xml/, 10_000);
    await search.stop();
  });

  test.skipIf(lacksGupnp)('libgupnp-igd maps, renews before its lease ends, and takes it back', async () => {
    const args = ['UDP', '5004', inner1, '5004', '6'];
    const igd = lab().spawn('inner1', [PYTHON, ADD_PORT, ...args]);
    await igd.waitFor(/"kind": "(mapped|failed)".*\n/, 15_000);
    expect(factsOf(igd)).toEqual([{ kind: 'mapped', address: external, port: 5004, to: `${inner1}:5004` }]);
    expect(await lab().natRules()).toEqual([outerRule('udp', 5004)]);
    await leads(lab(), { protocol: 'udp', externalPort: 5004 });

    let least = Number.POSITIVE_INFINITY;
    await until('a renewal', async () => {
      // Asked by another host, and not too often: each has so many questions a second.
      await delay(200);
      const left = Number(/'libgupnp-igd' '' (\d+)/.exec(await gateway.upnpc('inner2', '-l'))?.[1]);
      least = Math.min(least, left);
      return left > least;
    });
    igd.signal('SIGUSR1');
    await untilOuter(lab());
    await igd.stop();
  });

  test.skipIf(lacksGupnp)(
    'a control point hears of the address, of each mapping, and of the end',
    async () => {
      const point = lab().spawn('inner1', [PYTHON, EVENTS, SERVICE]);
      const heard = (fact: Readonly<Record<string, unknown>>) =>
        until(JSON.stringify(fact), async () => {
          if (!point.running) throw new Error(point.output);
          return factsOf(point).some((one) =>
            Object.entries(fact).every(([key, value]) => one[key] === value),
          );
        }).catch((error: Error) => {
          throw new Error(`${error.message}\n${point.output}`);
        });
      await heard({ kind: 'available', address: external });
      await heard({ kind: 'event', name: 'ConnectionStatus', value: 'Connected' });
      await heard({ kind: 'event', name: 'ExternalIPAddress', value: external });

      await gateway.upnpc('inner2', '-a', ADDRESSES.inner2, '80', '8080', 'tcp', '600');
      await heard({ kind: 'event', name: 'PortMappingNumberOfEntries', value: 1 });
      await lab().gateway.restart({ externalAddress: '11.22.33.55' });
      await heard({ kind: 'event', name: 'ExternalIPAddress', value: '11.22.33.55' });

      await gateway.stop();
      await heard({ kind: 'unavailable', type: SERVICE });
      await point.stop();
    },
  );
});

function factsOf({ stdout }: LabProcess): readonly Readonly<Record<string, unknown>>[] {
  const lines = stdout.split('\n').slice(0, -1);
  return lines.map((line): Readonly<Record<string, unknown>> => JSON.parse(line));
}

/** The programs of examples/, started by the commands of their README, before a real gateway and for clients outside. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { settled, until } from './support/keeping.ts';
import { ADDRESSES } from './support/lab.ts';
import type { LabProcess } from './support/processes.ts';
import { describeLab, rule } from './support/suite.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const README = readFileSync(new URL('../../examples/README.md', import.meta.url), 'utf8');
const OTHER_EXTERNAL = '11.22.33.55';
const PATIENCE_MS = 30_000;

/** PCP's clock shows a restart; UPnP has none, and what it may still have is asked for again in silence. */
const WITH_A_CLOCK = { upnp: false };

/** The line that starts an example, as a reader pastes it. */
function commandOf(name: string): string[] {
  const line = README.split('\n').find((one) => one.startsWith(`node examples/${name}`));
  if (line === undefined) throw new Error(`examples/README.md does not start ${name}`);
  return line.split(' ');
}

/** A player who says one line and hears so many datagrams, for `node -e` in wan. */
const PLAYER = `
  const [address, port, count] = process.argv.slice(1);
  const socket = require('node:dgram').createSocket('udp4');
  const heard = [];
  setTimeout(() => process.exit(1), 10_000).unref();
  socket.on('message', (text) => {
    if (heard.push(String(text)) < Number(count)) return;
    console.log(heard.join('\\n'));
    process.exit(0);
  });
  socket.send('join Ann', Number(port), address);
`;

const BROWSER = `
  const signal = AbortSignal.timeout(5_000);
  fetch(process.argv[1], { signal }).then((answer) => answer.text()).then((text) => process.stdout.write(text));
`;

describeLab('examples', { ipv6: true }, (lab) => {
  let running: LabProcess[] = [];
  beforeEach(() => {
    running = [];
  });
  afterEach(async () => {
    await Promise.all(running.map((one) => one.stop()));
  });

  const start = (name: string): LabProcess => {
    const example = lab().spawn('lan', ['env', '-C', ROOT, ...commandOf(name)]);
    running.push(example);
    return example;
  };

  /** Ends it as a service manager does: everything is given back, and nothing was wrong. */
  const ends = async (example: LabProcess): Promise<void> => {
    example.signal('SIGTERM');
    const { code, stdout, stderr } = await example.exited;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/\nthe port is given back\n$/);
    expect(await lab().natRules()).toEqual([]);
  };

  const get = (path: string): Promise<string> =>
    lab().must('wan', [process.execPath, '-e', BROWSER, `http://${ADDRESSES.outer}:8080${path}`]);

  test('the BitTorrent-like client is reached by TCP and UDP, and announces each new address', async () => {
    const gateway = await lab().startGateway();
    const client = start('webtorrent-like.js');
    await client.waitFor(/^announced 11\.22\.33\.44:6881 \(started\): 200$/m, PATIENCE_MS);
    expect(client.output).toContain('tracker: [{"ip":"11.22.33.44","port":6881}]');
    expect(await lab().natRules()).toEqual([rule('tcp', 6881), rule('udp', 6881)]);
    expect(await lab().connectFromWan(6881)).toContain('BitTorrent protocol');
    const ping = 'd1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe';
    expect(await lab().connectFromWan(6881, 'udp', { send: ping })).toContain('-NW0001-');

    await settled();
    await gateway.restart({ externalAddress: OTHER_EXTERNAL });
    await client.waitFor(/^announced 11\.22\.33\.55:6881 \(still here\): 200$/m, PATIENCE_MS);
    expect(client.output).toContain('tracker: [{"ip":"11.22.33.55","port":6881}]');
    expect(await lab().connectFromWan(6881)).toContain('BitTorrent protocol');

    await ends(client);
    expect(client.output).toContain('announced 11.22.33.55:6881 (stopped): 200\n');
    expect(client.output).toContain('tracker: []');
  });

  test('the game server is joined from outside, its heartbeat arrives, and it comes back after the gateway', async () => {
    const gateway = await lab().startGateway(WITH_A_CLOCK);
    const server = start('game-server.js');
    await server.waitFor(/^players join at 11\.22\.33\.44:27015$/m, PATIENCE_MS);
    const joins = () => lab().must('wan', [process.execPath, '-e', PLAYER, ADDRESSES.outer, '27015', '2']);
    expect(await joins()).toBe('welcome Ann\nheartbeat 1 11.22.33.44:27015\n');
    expect(server.output).toContain(`Ann joined from ${ADDRESSES.wan}:`);

    await settled();
    const told = server.output.length;
    await gateway.stop();
    await lab().wipeTable();
    await gateway.start();
    await until(
      'it is shown again',
      async () => /players join at/.test(server.output.slice(told)),
      PATIENCE_MS,
    );
    expect(server.output.slice(told)).toMatch(
      /^players outside cannot join: .+\nplayers join at 11\.22\.33\.44:27015$/m,
    );
    expect(await joins()).toContain('welcome Ann');
    await ends(server);
  });

  test('the game server starts before there is a gateway, and is reached when it has come', async () => {
    const gateway = await lab().startGateway();
    await gateway.stop();
    const server = start('game-server.js');
    await server.waitFor(/^players outside cannot join yet$/m, PATIENCE_MS);
    await gateway.start();
    await server.waitFor(/^players join at 11\.22\.33\.44:27015$/m, PATIENCE_MS);
    await ends(server);
  });

  test('the libp2p-style node adds its addresses of both families, and removes what is lost', async () => {
    const gateway = await lab().startGateway(WITH_A_CLOCK);
    const node = start('libp2p-node.js');
    const [four, six] = ['/ip4/11.22.33.44/tcp/4001', `/ip6/${ADDRESSES.lan6}/tcp/4001`];
    for (const one of [four, six]) await node.waitFor(new RegExp(`^added ${one}$`, 'm'), PATIENCE_MS);
    const greeting = await lab().connectFromWan(4001, 'tcp');
    expect(greeting?.startsWith('\x13/multistream/1.0.0\n')).toBe(true);
    expect(JSON.parse(greeting?.split('\n')[1] ?? '')).toEqual(expect.arrayContaining([four, six]));
    expect(await lab().connectFromWan(4001, 'tcp', { to: ADDRESSES.lan6 })).toBe(greeting);

    await settled();
    const told = node.output.length;
    await gateway.stop();
    await lab().wipeTable();
    await gateway.start();
    const [removed, added] = [`removed ${four}\n`, `added ${four}\n`];
    await until('it is added again', async () => node.output.slice(told).includes(added), PATIENCE_MS);
    expect(node.output.slice(told).indexOf(removed)).toBeLessThan(node.output.slice(told).indexOf(added));
    expect(node.output.slice(told)).toContain(removed);
    await until(
      'the pinhole is open again',
      async () =>
        (await lab().connectFromWan(4001, 'tcp', { to: ADDRESSES.lan6, timeoutMs: 500 })) !== undefined,
      PATIENCE_MS,
    );
    await ends(node);
    expect(node.output).toContain(`removed ${six}\n`);
    const closed = await lab().connectFromWan(4001, 'tcp', { to: ADDRESSES.lan6, timeoutMs: 500 });
    expect(closed).toBeUndefined();
  });

  test('the Express app is served outside, and says where', async () => {
    const gateway = await lab().startGateway();
    const app = start('express-behind-router.js');
    await app.waitFor(/^outside: http:\/\/11\.22\.33\.44:8080\/$/m, PATIENCE_MS);
    expect(await lab().natRules()).toEqual([rule('tcp', 8080, { internalPort: 3000 })]);
    expect(await get('/')).toBe(`Hello ${ADDRESSES.wan}! Tell others: http://11.22.33.44:8080/\n`);

    await settled();
    await gateway.restart({ externalAddress: OTHER_EXTERNAL });
    await app.waitFor(/^outside: http:\/\/11\.22\.33\.55:8080\/$/m, PATIENCE_MS);
    expect(JSON.parse(await get('/where'))).toMatchObject({ url: 'http://11.22.33.55:8080/' });
    await ends(app);
  });
});

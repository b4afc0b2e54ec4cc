/** The commands of the rule table, and what map and unmap have an agent carry, run in this process on a real socket. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { run as map } from '../../src/cli/commands/map.ts';
import * as rule from '../../src/cli/commands/rule.ts';
import { run as unmap } from '../../src/cli/commands/unmap.ts';
import { ownPlaces } from '../../src/control/place.ts';
import type { EditReport, RuleEdit } from '../../src/control/protocol.ts';
import { NatwardError } from '../../src/errors.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import {
  CONVERSATION,
  EDITED,
  type FakeSteering,
  RULE,
  startAgent,
  temporary,
} from '../control/support/fake-agent.ts';
import { siteFor } from './natward.ts';
import { captureSaid } from './said.ts';

const VERSION = '1.2.3';
const NO_SIGNAL = new AbortController().signal;
const said = captureSaid();
let exitCode: typeof process.exitCode;

beforeEach(async () => {
  exitCode = process.exitCode;
  vi.stubEnv('NATWARD_HOME', await temporary());
});

afterEach(() => {
  process.exitCode = exitCode;
  vi.unstubAllEnvs();
});

/** An agent where this user's is looked for. */
async function agent(): Promise<FakeSteering> {
  const [place] = await ownPlaces();
  return (await startAgent({ place })).steering;
}

function printed(): unknown {
  return JSON.parse(said.stdout);
}

describe('natward rule', () => {
  test('add hands over all that was said', async () => {
    const steering = await agent();
    const flags = { description: 'the web', id: 'web', before: '1', disabled: true, cut: true } as const;
    await rule.add(VERSION, 'in tcp 80 -> :8080', flags, NO_SIGNAL);
    expect(steering.asked).toEqual([
      {
        edit: {
          kind: 'add',
          rules: [{ id: 'web', rule: 'in tcp 80 -> :8080', description: 'the web', enabled: false }],
          before: '1',
        },
        conversations: 'cut',
        dryRun: false,
      },
    ]);
    expect(said.stdout).toMatch(/^web added: in tcp 80 .*\n.* of web was cut\nnote: /s);
  });

  test('add says nothing of what was not said', async () => {
    const steering = await agent();
    await rule.add(VERSION, 'in tcp 80 -> :8080', { dryRun: true, json: true }, NO_SIGNAL);
    const rules = [{ rule: 'in tcp 80 -> :8080', enabled: true }];
    expect(steering.asked).toEqual([{ edit: { kind: 'add', rules }, conversations: 'drain', dryRun: true }]);
    expect(printed()).toEqual(EDITED);
  });

  test('edit changes the text, the description, or both, and wants one of them', async () => {
    const steering = await agent();
    await rule.edit('web', 'in tcp 1 -> :2', {});
    await rule.edit('2', undefined, { description: '' });
    expect(steering.asked).toMatchObject([
      { edit: { kind: 'edit', name: 'web', rule: 'in tcp 1 -> :2' } },
      { edit: { kind: 'edit', name: '2', description: '' } },
    ]);
    await expect(rule.edit('web', undefined, {})).rejects.toMatchObject({ code: 'USAGE' });
    expect(steering.asked).toHaveLength(2);
  });

  test.each<RuleEdit>([
    { kind: 'enable', names: ['a', '2'] },
    { kind: 'disable', names: ['a'] },
    { kind: 'remove', names: ['a'] },
    { kind: 'move', name: 'a', before: 'b' },
    { kind: 'move', name: 'a' },
  ])('%j is handed over', async (edit) => {
    const steering = await agent();
    await rule.change(edit, { json: true });
    expect(steering.asked).toEqual([{ edit, conversations: 'drain', dryRun: false }]);
    expect(printed()).toEqual(EDITED);
  });

  test('what is refused is thrown, and nothing is printed', async () => {
    const steering = await agent();
    steering.answerEdit = async () => {
      throw new NatwardError('NOT_OWN', 'rule a is a lease’s');
    };
    await expect(rule.change({ kind: 'remove', names: ['a'] }, {})).rejects.toMatchObject({
      code: 'NOT_OWN',
    });
    expect(said.stdout).toBe('');
  });

  test('list shows the table', async () => {
    const steering = await agent();
    await rule.list({ json: true });
    expect(printed()).toEqual({ isPaused: false, rules: [RULE] });
    said.stdout = '';
    steering.answerRules = [];
    await rule.list({});
    expect(said.stdout).toBe('no rules\n');
  });

  test('show knows a rule by its id, else by its place', async () => {
    const steering = await agent();
    const second = { ...RULE, id: 'other', position: 2 };
    steering.answerRules = [RULE, second];
    await rule.show('2', { json: true }, NO_SIGNAL);
    expect(printed()).toEqual({ rule: second, conversations: [] });
    said.stdout = '';
    steering.answerRules = [{ ...RULE, id: '2' }, second];
    await rule.show('2', { json: true }, NO_SIGNAL);
    expect(printed()).toMatchObject({ rule: { id: '2' } });
    said.stdout = '';
    steering.answerRules = [RULE];
    await rule.show('web', {}, NO_SIGNAL);
    expect(said.stdout).toContain('tcp 192.0.2.9:4711 -> 192.168.1.10:80 -> 10.0.0.5:8080 for ');
    await expect(rule.show('x', {}, NO_SIGNAL)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test.each([false, true])('show --watch says what happens until Ctrl-C (JSON: %s)', async (isJson) => {
    const steering = await agent();
    steering.told = [{ type: 'opened', conversation: CONVERSATION }];
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const flags = isJson ? ({ watch: true, json: true } as const) : ({ watch: true } as const);
    const showing = rule.show('1', flags, stop.signal);
    const last = isJson ? `${JSON.stringify(steering.told[0])}\n` : /^opened tcp .* by web\n$/m;
    await vi.waitFor(() => expect(said.stdout).toMatch(last));
    stop.abort();
    await showing;
    expect(process.exitCode).toBe(0);
    expect(steering.asked).toEqual([{ follow: 'web' }]);
    const first = isJson
      ? `${JSON.stringify({ rule: RULE, conversations: [CONVERSATION] })}\n`
      : `web ${RULE.text}\nplace 1, made by hand, carried by the relay\n`;
    expect(said.stdout.startsWith(first)).toBe(true);
  });

  test.each([
    ['192.0.2.9', '192.0.2.1:80', ['192.0.2.9', 50_000], ['192.0.2.1', 80]],
    ['192.0.2.9:4711', '[2001:DB8::1]:80', ['192.0.2.9', 4711], ['2001:db8::1', 80]],
    ['[2001:db8::9]:1', '192.0.2.1:80', ['2001:db8::9', 1], ['192.0.2.1', 80]],
    ['2001:db8::9', '192.0.2.1:80', ['2001:db8::9', 50_000], ['192.0.2.1', 80]],
    ['[2001:db8::9]', '192.0.2.1:80', ['2001:db8::9', 50_000], ['192.0.2.1', 80]],
  ] as const)('explain reads %s and %s', async (source, destination, from, to) => {
    const steering = await agent();
    await rule.explain('udp', source, destination, { json: true, out: true, adapter: 'eth0' });
    expect(steering.asked).toEqual([
      {
        direction: 'out',
        protocol: 'udp',
        source: { address: from[0], port: from[1] },
        destination: { address: to[0], port: to[1] },
        names: [],
        adapter: 'eth0',
      },
    ]);
    expect(printed()).toEqual(steering.answerExplain);
  });

  test.each([
    ['sctp', '192.0.2.9', '192.0.2.1:80', /no protocol/],
    ['tcp', 'example.org', '192.0.2.1:80', /no ADDRESS:PORT/],
    ['tcp', '192.0.2.9', '192.0.2.1', /no ADDRESS:PORT/],
    ['tcp', '192.0.2.9', '192.0.2.1:', /no ADDRESS:PORT/],
    ['tcp', '192.0.2.9', '192.0.2.1:65536', /65536/],
    ['tcp', '', '192.0.2.1:80', /no ADDRESS:PORT/],
  ])('explain does not read %s %s %s', async (protocol, source, destination, message) => {
    const steering = await agent();
    await expect(rule.explain(protocol, source, destination, {})).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringMatching(message),
    });
    expect(steering.asked).toEqual([]);
  });

  test('panic and resume are the agent’s to do, and list says how it is', async () => {
    const steering = await agent();
    await rule.pause('panic', {});
    expect(said.stdout).toBe(
      '1 rule off, 2 conversations ended\nnatward rule resume has them carried out again\n',
    );
    expect(steering.isPaused).toBe(true);
    await rule.list({});
    expect(said.stdout).toContain('RULES ARE OFF: ');
    said.stdout = '';
    await rule.pause('resume', { json: true });
    expect(printed()).toEqual({ isPaused: false, isNew: true, rules: 1, ended: 0 });
  });

  test('an engine cannot be chosen for an agent that has one', async () => {
    const steering = await agent();
    const adding = rule.add(VERSION, 'in tcp 80 -> :8080', { engine: 'relay' }, NO_SIGNAL);
    await expect(adding).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('--engine relay'),
    });
    expect(steering.asked).toEqual([]);
  });

  test('without an agent says so, but for add', async () => {
    const none = { code: 'FAILED', message: 'no agent runs here' };
    await expect(rule.list({})).rejects.toMatchObject(none);
    await expect(rule.show('a', {}, NO_SIGNAL)).rejects.toMatchObject(none);
    await expect(rule.change({ kind: 'remove', names: ['a'] }, {})).rejects.toMatchObject(none);
    await expect(rule.explain('tcp', '192.0.2.1', '192.0.2.1:80', {})).rejects.toMatchObject(none);
  });
});

describe('natward rule add without an agent', () => {
  async function places(): Promise<{ readonly line: string; readonly port: number }> {
    const server = createServer((socket) => void socket.on('error', () => undefined).pipe(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const { port: target } = server.address() as AddressInfo;
    const other = createServer().listen(0, '127.0.0.3');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    other.close();
    await once(other, 'close');
    return { line: `in tcp 127.0.0.3:${port} -> 127.0.0.1:${target}`, port };
  }

  test('runs it in this terminal, until Ctrl-C', async () => {
    const { line, port } = await places();
    const stop = new AbortController();
    const running = rule.add(VERSION, line, {}, stop.signal);
    await vi.waitFor(() => expect(said.stdout).toContain('until Ctrl-C\n'), { timeout: 5000 });
    const socket = connect(port, '127.0.0.3');
    socket.end('hello');
    let back = '';
    for await (const chunk of socket) back += String(chunk);
    expect(back).toBe('hello');
    stop.abort();
    await running;
    expect(process.exitCode).toBe(0);
    const [error] = await once(connect(port, '127.0.0.3'), 'error').catch((reason: unknown) => [reason]);
    expect(error).toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('with --dry-run says what would be, and ends', async () => {
    const { line } = await places();
    await rule.add(VERSION, line, { dryRun: true, json: true, id: 'a' }, NO_SIGNAL);
    expect((printed() as EditReport).added).toEqual(['a']);
  });

  test('that is refused ends at once', async () => {
    await expect(rule.add(VERSION, 'in tcp', {}, NO_SIGNAL)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(rule.add(VERSION, 'in tcp 80 -> :8080', { before: 'x' }, NO_SIGNAL)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });
});

describe('what the gateway maps to this host alone', () => {
  const SPEC = '4430:127.0.0.9:8443';
  const ID = 'map-tcp-8443-127.0.0.9';
  const ADD = { edit: { kind: 'add', rules: [{ id: ID, rule: 'in tcp 8443 -> 127.0.0.9:+0' }] } };
  const REMOVE = { edit: { kind: 'remove', names: [ID] } };

  async function site(settings: Partial<GatewaySettings> = {}) {
    const { gateway, address } = await siteFor({ protocols: ['pcp'], carriesTraffic: false, ...settings });
    const flags = { gateway: address, timeout: 5000, lifetime: 7200 };
    return { gateway, flags, json: { ...flags, json: true } as const };
  }

  test('map has the agent carry on, and says where to', async () => {
    const steering = await agent();
    steering.answerRules = [];
    const { gateway, flags } = await site();
    await map([SPEC, '9090'], flags, NO_SIGNAL);
    expect(steering.asked).toMatchObject([ADD]);
    expect(gateway.table).toMatchObject([{ externalPort: 9090 }, { externalPort: 4430, internalPort: 8443 }]);
    expect(said.stdout).toContain('note: tcp 4430: the agent carries it on to 127.0.0.9:8443\n');
    expect([process.exitCode, said.stderr]).toEqual([0, '']);
  });

  test('map --json says it as the target', async () => {
    await agent();
    const { json } = await site();
    await map([SPEC], json, NO_SIGNAL);
    expect(printed()).toMatchObject({
      mappings: [{ externalPort: 4430, target: { address: '127.0.0.9', port: 8443 } }],
      failures: [],
    });
  });

  test('map without an agent fails, and says what would help', async () => {
    const { gateway, json } = await site();
    await map([SPEC], json, NO_SIGNAL);
    expect(printed()).toMatchObject({
      mappings: [],
      failures: [{ spec: SPEC, advice: expect.stringContaining('natward keep') }],
    });
    expect(gateway.table).toEqual([]);
    expect(process.exitCode).not.toBe(0);
  });

  test('map where the agent refuses says what it says, and maps nothing', async () => {
    const steering = await agent();
    steering.answerRules = [];
    steering.answerEdit = async () => {
      throw new NatwardError('CONFLICT', 'another program listens on TCP 8443', { advice: 'End it.' });
    };
    const { gateway, json } = await site();
    await map([SPEC], json, NO_SIGNAL);
    expect(printed()).toMatchObject({
      mappings: [],
      failures: [{ spec: SPEC, code: 'CONFLICT', message: 'another program listens on TCP 8443' }],
    });
    expect(gateway.table).toEqual([]);
    expect(process.exitCode).toBe(4);
  });

  test('map that the gateway refuses also for this host takes the new rule away', async () => {
    const steering = await agent();
    steering.answerRules = [];
    const carried = [{ ...RULE, id: ID }];
    steering.answerEdit = async ({ kind }) => {
      steering.answerRules = kind === 'add' ? carried : [];
      return EDITED;
    };
    const { json } = await site({ quirks: { forbiddenByUser: true } });
    await map([SPEC], json, NO_SIGNAL);
    expect(steering.asked).toMatchObject([ADD, REMOVE]);
    expect(printed()).toMatchObject({ mappings: [], failures: [{ spec: SPEC, code: 'NOT_AUTHORIZED' }] });
    // One that was there before may still be of use.
    steering.answerRules = carried;
    steering.asked.length = 0;
    await map([SPEC], json, NO_SIGNAL);
    expect(steering.asked).toEqual([]);
  });

  test('unmap takes the rule away, and the mapping to this host', async () => {
    const steering = await agent();
    steering.answerRules = [];
    const { gateway, flags } = await site();
    await map([SPEC], flags, NO_SIGNAL);
    steering.answerRules = [{ ...RULE, id: ID }];
    steering.asked.length = 0;
    await unmap([SPEC], flags, NO_SIGNAL);
    expect(steering.asked).toMatchObject([REMOVE]);
    expect(gateway.table).toEqual([]);
    expect(process.exitCode).toBe(0);
  });

  test('unmap of what the gateway maps there itself asks the agent for nothing but its rules', async () => {
    const steering = await agent();
    const { gateway, flags } = await site({ secureMode: false });
    await map([SPEC], flags, NO_SIGNAL);
    expect(gateway.table).toMatchObject([{ internalClient: '127.0.0.9' }]);
    await unmap([SPEC], flags, NO_SIGNAL);
    expect(steering.asked).toEqual([]);
    expect(gateway.table).toEqual([]);
  });

  test('map and unmap go on without an agent that does not answer as one', async () => {
    const [place] = await ownPlaces();
    const stranger = createServer((socket) => void socket.on('error', () => undefined).end('no agent\n'));
    stranger.listen(place);
    await once(stranger, 'listening');
    onTestFinished(() => void stranger.close());
    const { gateway, flags } = await site();
    await map([SPEC, '9090'], flags, NO_SIGNAL);
    expect(gateway.table).toMatchObject([{ externalPort: 9090 }]);
    expect(process.exitCode).toBe(5);
    await unmap([SPEC], flags, NO_SIGNAL);
    expect(said.stderr).toContain('natward');
  });
});

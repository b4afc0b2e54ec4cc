/**
 * What the evaluator says of other programs' tables, judged by TCP connections: through a plain dnat table with each
 * of them loaded beside it, to the host behind the gateway and to the gateway itself.
 */

import { existsSync, readFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { obstacles, type Obstacle, type Passage } from '../../../src/forwarder/nftables/foreign.ts';
import { ADDRESSES, type Lab } from '../support/lab.ts';
import { describeLab } from '../support/suite.ts';

const FORMS = Array.from({ length: 21 }, (_, index) => index + 1);
/** Sent on to the host behind, all to one server. */
const FORWARDED = [8000, 8080, ...FORMS];
/** The gateway's own: as they are, and by a redirect. */
const OWN = [100, 8443, 9090];
const REDIRECTED = 8081;

/** What natward does, in short. Its name is natward's, so that it is passed over. */
const DNAT_TABLE = `
table inet natward {
  chain in {
    type nat hook prerouting priority -105
    tcp dport { ${FORWARDED.join(', ')} } dnat ip to ${ADDRESSES.lan}
    tcp dport ${REDIRECTED} redirect to :9090
  }
}
`;

const lacksIptables = existsSync('/usr/sbin/iptables-nft') ? false : 'iptables is not installed';

interface Foreign {
  readonly name: string;
  readonly from: 'nft' | 'iptables';
  /** What is expected to pass, so that an evaluator that is always unsure does not. */
  readonly ports: readonly number[];
}

const COMMON = [8000, 8080, ...OWN, REDIRECTED];
const FOREIGN: readonly Foreign[] = [
  { name: 'docker', from: 'iptables', ports: COMMON },
  { name: 'ufw', from: 'iptables', ports: COMMON },
  { name: 'ufw-allowed', from: 'iptables', ports: COMMON },
  { name: 'iptables-forms', from: 'iptables', ports: FORMS },
  { name: 'firewalld', from: 'nft', ports: COMMON },
  { name: 'miniupnpd', from: 'nft', ports: COMMON },
  { name: 'workstation', from: 'nft', ports: COMMON },
  { name: 'hand', from: 'nft', ports: COMMON },
];

describeLab('foreign tables', {}, (lab) => {
  beforeAll(async () => {
    await lab().serve({ port: 80 });
    await lab().must('lan', ['nft', '-f', '-'], {
      input: `table ip lab {
        chain in {
          type nat hook prerouting priority -100
          tcp dport { ${FORWARDED.join(', ')} } redirect to :80
        }
      }`,
    });
    for (const port of OWN) await lab().serve({ ns: 'gw', port });
  });

  test.for(FOREIGN)(
    '$name: what is sure agrees with whether one can connect',
    async ({ name, from, ports }, { skip }) => {
      if (from === 'iptables' && lacksIptables) skip(lacksIptables);
      await load(lab(), name, from);
      const told = await Promise.all(ports.map(async (port) => [port, await verdict(lab(), port)] as const));
      const sure = told.filter(([, answer]) => answer !== 'maybe');
      const seen = await Promise.all(
        sure.map(async ([port]) => [port, (await connects(lab(), port)) ? 'passes' : 'sure'] as const),
      );
      expect(sure).toEqual(seen);
      expect(sure.length).toBeGreaterThan(ports.length / 2);
    },
  );

  test.skipIf(lacksIptables)('what docker drops passes when the advice is followed', async () => {
    await load(lab(), 'docker', 'iptables');
    await follow(lab(), 8080, /iptables .* -j ACCEPT/);
  });

  test('what a firewall by hand drops passes when the advice is followed', async () => {
    await load(lab(), 'hand', 'nft');
    await follow(lab(), 8080, /nft insert rule .* accept/);
    await follow(lab(), 9090, /nft insert rule .* accept/);
  });
});

/** Puts the fixture beside the dnat table, for this network, and takes away everything else. */
async function load(lab: Lab, name: string, from: 'nft' | 'iptables'): Promise<void> {
  const file = new URL(`../../../fixtures/nftables/foreign/${name}.${from}`, import.meta.url);
  const input = readFileSync(file, 'utf8')
    .replaceAll('10.0.0.5', ADDRESSES.lan)
    .replaceAll('10.0.0.0/24', '192.168.77.0/24')
    .replaceAll('0xa000005', '0xc0a84d0a')
    // nft does not read back what it lists of miniupnpd's own redirect.
    .replace(/^.* dport 18080 dnat .*$/m, '');
  await lab.must('gw', ['nft', '-f', '-'], { input: `flush ruleset\n${DNAT_TABLE}` });
  await lab.must('gw', from === 'nft' ? ['nft', '-f', '-'] : ['iptables-nft-restore'], { input });
}

function passage(port: number): Passage {
  const client = { family: 4, protocol: 'tcp', source: ADDRESSES.wan, inAdapter: 'ext0', mark: 0 } as const;
  if (FORWARDED.includes(port)) {
    const to = { destination: ADDRESSES.lan, destinationPort: port, outAdapter: 'int0' };
    return { ...client, ...to, hook: 'forward', isTranslated: true };
  }
  const isTranslated = port === REDIRECTED;
  const to = { destination: ADDRESSES.outer, destinationPort: isTranslated ? 9090 : port };
  return { ...client, ...to, hook: 'input', isTranslated };
}

async function found(lab: Lab, port: number): Promise<readonly Obstacle[]> {
  const json = await lab.must('gw', ['nft', '-j', 'list', 'ruleset']);
  return obstacles(JSON.parse(json), [passage(port)], await lab.must('gw', ['nft', '-a', 'list', 'ruleset']));
}

async function verdict(lab: Lab, port: number): Promise<'passes' | 'sure' | 'maybe'> {
  const all = await found(lab, port);
  if (all.length === 0) return 'passes';
  return all.some(({ certainty }) => certainty === 'sure') ? 'sure' : 'maybe';
}

async function connects(lab: Lab, port: number): Promise<boolean> {
  return typeof (await lab.ask(port, 'tcp', Buffer.from('ping'), { timeoutMs: 1_500 })) !== 'string';
}

/** Runs the command that the advice holds. */
async function follow(lab: Lab, port: number, pattern: RegExp): Promise<void> {
  expect(await connects(lab, port)).toBe(false);
  const [obstacle] = await found(lab, port);
  const [command = ''] = pattern.exec(obstacle?.advice ?? '') ?? [];
  await lab.must('gw', command.split(' '));
  expect(await found(lab, port)).toEqual([]);
  expect(await connects(lab, port)).toBe(true);
}

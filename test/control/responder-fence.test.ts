/** The fence before the responders: loaded where it may be, and otherwise a warning that says what is open. */

import { describe, expect, test } from 'vitest';
import { type FenceMachine, ResponderFence } from '../../src/control/responder-fence.ts';
import type { ProgramResult } from '../../src/system/program.ts';

const DONE: ProgramResult = { exitCode: 0, endedBy: null, cut: null, stdout: '', stderr: '' };
const DOCKER0 = { interface: 'docker0', addresses: ['172.17.0.1'], ports: [5351] };
const FENCE = 'iifname != { "docker0", "lo" } ip daddr 172.17.0.1 udp dport 5351 drop';

/** A machine with eth0 and docker0, where sources are checked loosely, as systemd has it. */
function sceneOf(other: Partial<FenceMachine> = {}) {
  /** What nft was given to load, by its rules; `none` is no table. */
  const loads: string[] = [];
  const warnings: string[] = [];
  const advised: string[] = [];
  const scene = {
    loads,
    warnings,
    advised,
    tables: '',
    complaint: '',
    rpFilter: '2',
    owners: 0,
  };
  const fence = new ResponderFence(
    {
      async runProgram({ command, input = '' }) {
        const words = 'shell' in command ? [] : command;
        if (words[1] === 'list') return { ...DONE, stdout: scene.tables };
        if (scene.complaint !== '') return { ...DONE, exitCode: 1, stderr: scene.complaint };
        loads.push([...input.matchAll(/.* drop$/gm)].map(([line]) => line.trim()).join(', ') || 'none');
        scene.tables = input.includes(' chain ') ? 'table inet natward-fence\n' : '';
        return DONE;
      },
      sysctls: { read: (name) => (name.includes('.all.') ? '0' : scene.rpFilter) },
      mayLoad: () => true,
      async claim() {
        scene.owners++;
        return { [Symbol.dispose]: () => void scene.owners-- };
      },
      linkNames: () => ['eth0', 'docker0'],
      ...other,
    },
    (error) => {
      warnings.push(error?.message ?? 'well');
      if (error !== undefined) advised.push(error.advice ?? '');
    },
  );
  return Object.assign(scene, { fence });
}

describe('where natward may load it', () => {
  test('it is loaded once, again where somebody flushed it, and taken away', async () => {
    const scene = sceneOf();
    await scene.fence.raise([DOCKER0]);
    await scene.fence.raise([DOCKER0]);
    expect(scene.loads).toEqual([FENCE]);
    scene.tables = 'table ip nat\n';
    await scene.fence.raise([DOCKER0]);
    expect(scene.loads).toEqual([FENCE, FENCE]);
    expect(scene.owners).toBe(1);
    await scene.fence.raise([]);
    await scene.fence.raise([]);
    expect(scene.loads).toEqual([FENCE, FENCE, 'none']);
    expect(scene.owners).toBe(0);
    expect(scene.warnings).toEqual([]);
  });

  test('one that a killed agent left goes also before there is a new one', async () => {
    const scene = sceneOf();
    await scene.fence.raise([]);
    expect(scene.loads).toEqual(['none']);
  });

  test('what nft does not take is a warning with its words, and tried again', async () => {
    const scene = sceneOf();
    scene.complaint = 'Error: Could not process rule: Operation not supported';
    await scene.fence.raise([DOCKER0]);
    await scene.fence.raise([DOCKER0]);
    expect(scene.warnings).toEqual([
      `hosts on eth0 can claim to be hosts of the network of docker0, and have ports mapped for them: nft: ${scene.complaint}`,
    ]);
    scene.complaint = '';
    await scene.fence.raise([DOCKER0]);
    expect(scene.warnings.slice(1)).toEqual(['well']);
  });

  test('another agent’s is left alone', async () => {
    const scene = sceneOf({ claim: async () => undefined });
    await scene.fence.raise([DOCKER0]);
    await scene.fence.raise([]);
    expect(scene.loads).toEqual([]);
    expect(scene.warnings).toEqual([expect.stringContaining('another natward of this machine'), 'well']);
  });

  test('a name that nft is given in no case is told, and the others are fenced', async () => {
    const scene = sceneOf();
    await scene.fence.raise([{ ...DOCKER0, interface: 'dö"0', addresses: ['172.18.0.1'] }, DOCKER0]);
    expect(scene.loads).toEqual([FENCE]);
    expect(scene.warnings).toEqual([expect.stringContaining('no name such as')]);
  });
});

describe('where natward may not', () => {
  test('what is open is told once, with what closes it, until it is closed', async () => {
    const scene = sceneOf({ mayLoad: () => false });
    await scene.fence.raise([DOCKER0]);
    await scene.fence.raise([DOCKER0]);
    expect(scene.warnings).toEqual([
      'hosts on eth0 can claim to be hosts of the network of docker0, and have ports mapped for them: natward may not load nftables here (CAP_NET_ADMIN)',
    ]);
    expect(scene.advised).toEqual([
      'Run the agent as the service (natward service install) or as root: it fences them off then. Or: sysctl -w net.ipv4.conf.eth0.rp_filter=1',
    ]);
    scene.rpFilter = '1';
    await scene.fence.raise([DOCKER0]);
    expect(scene.warnings.slice(1)).toEqual(['well']);
  });

  test('nothing is said where the kernel checks sources strictly', async () => {
    const scene = sceneOf({ mayLoad: () => false });
    scene.rpFilter = '1';
    await scene.fence.raise([DOCKER0]);
    expect(scene.warnings).toEqual([]);
  });

  test('no setting closes IPv6', async () => {
    const scene = sceneOf({ mayLoad: () => false });
    const addresses = ['172.17.0.1', '2001:db8::1'];
    await scene.fence.raise([{ ...DOCKER0, addresses }]);
    expect(scene.advised[0]).toMatch(/For IPv4 alone: sysctl -w net\.ipv4\.conf\.eth0\.rp_filter=1$/);
    scene.rpFilter = '1';
    await scene.fence.raise([{ ...DOCKER0, addresses }]);
    expect(scene.advised).toHaveLength(1);
  });

  test('many interfaces are counted', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `eth${index}`);
    const scene = sceneOf({ mayLoad: () => false, linkNames: () => names });
    await scene.fence.raise([DOCKER0]);
    expect(scene.warnings[0]).toMatch(/^hosts on eth0, eth1, eth2, eth3, eth4, eth5 and 14 more can claim/);
  });
});

/** The service on a machine that systemd runs: installed, sandboxed, watched, with real leases, and taken away again. */

import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Machine } from './support/machine.ts';
import type { Result } from './support/processes.ts';
import { describeLab, rowsOf, rule } from './support/suite.ts';

const DIST = fileURLToPath(new URL('../../dist/bin', import.meta.url));
const CONFIG = '/etc/natward/config.toml';

/** What the kernel's rules need of a process, and what it must not get. Takes down what it puts up. */
const PROBE = `
[ "$(id -u)" != 0 ]
nft -f - <<RULES
table inet natward_probe {
  chain c {
    type nat hook prerouting priority -105
    meta l4proto tcp ct mark set 0x10000 dnat ip to 192.0.2.1
  }
}
RULES
nft -j list table inet natward_probe
nft delete table inet natward_probe
forward=$(cat /proc/sys/net/ipv4/ip_forward)
echo 1 >/proc/sys/net/ipv4/ip_forward
grep 1 /proc/sys/net/ipv4/ip_forward
echo $forward >/proc/sys/net/ipv4/ip_forward
accounts=$(cat /proc/sys/net/netfilter/nf_conntrack_acct)
echo $accounts >/proc/sys/net/netfilter/nf_conntrack_acct
conntrack -L
ip rule add fwmark 0x10000/0xffff0000 table 4242 protocol 110
ip route add default dev lo table 4242
ip route flush table 4242
ip rule del fwmark 0x10000/0xffff0000 table 4242 protocol 110
grep ' /proc/sys ro,' /proc/self/mountinfo
`;
const FACTS = 'nft list ruleset; ip rule; ip route show table all; cat /proc/sys/net/ipv4/ip_forward';

describeLab('the service under systemd', {}, (lab) => {
  let machine: Machine;
  beforeAll(async () => {
    await lab().startGateway();
    machine = await Machine.boot(lab(), DIST);
  });
  afterAll(() => machine?.[Symbol.asyncDispose]());

  /** Runs a line of shell there, which has to succeed, and answers what it says. */
  async function shell(line: string): Promise<string> {
    const result = await machine.exec(['sh', '-c', line]);
    expect(result, line).toMatchObject({ code: 0 });
    return result.stdout;
  }

  function natward(args: string, from = `${process.execPath} /opt/natward`): Promise<Result> {
    return machine.exec(['sh', '-c', `${from}/natward.cjs ${args}`]);
  }

  /** What systemd says of the unit. */
  async function shown(property: string): Promise<string> {
    return (await shell(`systemctl show --value --property=${property} natward`)).trim();
  }

  /** Looks until a line of shell succeeds. */
  function until(line: string): Promise<string> {
    return shell(`for try in $(seq 150); do ${line} && exit; sleep 0.1; done; exit 1`);
  }

  const kept = `${process.execPath} /opt/natward/natward.cjs status | grep -q ':8080 kept,'`;

  test('install starts an agent that nobody can take for root', async () => {
    await shell(`mkdir -p /etc/natward; printf '[[keep]]\\nspec = "8080"\\n' >${CONFIG}`);
    expect(await natward('service install')).toMatchObject({ code: 0, stderr: '' });
    expect(await natward('service status')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^running: active \(running\): keeps 1 requests\npid \d+\n/),
    });
    const state = await shell(`cat /proc/${await shown('MainPID')}/status`);
    expect(state).toMatch(/^Uid:\t(?!0\t)/m);
    // CAP_NET_BIND_SERVICE and CAP_NET_ADMIN, and nothing else.
    expect(state).toMatch(/^CapBnd:\t0{12}1400$/m);
    expect(state).toMatch(/^CapEff:\t0{12}1400$/m);
    expect(state).toMatch(/^Seccomp:\t2$/m);
  });

  test('from inside its sandbox it finds the gateway and holds the port', async () => {
    await until(kept);
    expect(await rowsOf(lab())).toEqual([rule('tcp', 8080)]);
  });

  test('its rules may listen below port 1024, and on more ports than most programs have files', async () => {
    const add = (text: string) => natward(`rule add '${text}'`);
    // The relay's: it alone knows how long a target takes.
    expect(await add('in tcp 80 -> 192.0.2.1:80 connect 5s')).toMatchObject({ code: 0, stderr: '' });
    expect(await add('in tcp 10000-14999 -> 192.0.2.1:80 connect 5s')).toMatchObject({ code: 0, stderr: '' });
    expect(await shell('ss -ltn | wc -l').then(Number)).toBeGreaterThan(5000);
    expect(await natward('rule remove 1 2')).toMatchObject({ code: 0, stderr: '' });
  });

  test('the kernel carries its rules, and is as before when they are gone', async () => {
    expect(await natward(`rule add 'in tcp 81 -> 192.0.2.1:80'`)).toMatchObject({ code: 0, stderr: '' });
    const { rules } = JSON.parse((await natward('rule list --json')).stdout) as { rules: readonly object[] };
    expect(rules).toMatchObject([{ engine: 'nftables', waiting: null }]);
    expect(await shell('nft list tables')).toContain('table inet natward');
    expect(await natward('rule remove 1')).toMatchObject({ code: 0, stderr: '' });
    expect(await shell('nft list tables')).not.toContain('natward');
  });

  test('a panic while it is stopped has it start with its rules off', async () => {
    expect(await natward(`rule add 'in tcp 80 -> 192.0.2.1:80'`)).toMatchObject({ code: 0, stderr: '' });
    await shell('systemctl stop natward');
    expect(await natward('rule panic')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('one that remembers in /var/lib/natward starts with its rules off'),
    });
    await shell('systemctl start natward');
    expect((await natward('rule list')).stdout).toMatch(/^RULES ARE OFF: .*\n1 /);
    expect(await shell('nft list tables')).not.toContain('natward');
    expect(await natward('rule resume')).toMatchObject({ code: 0, stdout: 'rules are on again: 1 rule\n' });
    expect(await shell('nft list tables')).toContain('table inet natward');
    expect(await natward('rule remove 1')).toMatchObject({ code: 0, stderr: '' });
    await until(kept);
  });

  test('from inside its sandbox the programs of the kernel’s rules work, and of its settings the network’s', async () => {
    await shell(`cat >/opt/probe <<'EOF'\n${PROBE}EOF\nchmod 755 /opt/probe`);
    // The very sandbox, with another program in it.
    await shell(
      "sed 's/^ExecStart=.*/ExecStart=\\/bin\\/sh -eux \\/opt\\/probe/; s/^Type=.*/Type=oneshot/; /^Restart=/d; /Directory=/d' " +
        '/etc/systemd/system/natward.service >/etc/systemd/system/probe.service; systemctl daemon-reload',
    );
    const before = await shell(FACTS);
    const probe = await machine.exec([
      'sh',
      '-c',
      'systemctl start probe || journalctl --unit probe --no-pager',
    ]);
    expect(probe).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await shell(FACTS)).toBe(before);
    await shell('rm /etc/systemd/system/probe.service; systemctl daemon-reload');
  });

  test('reload takes a new configuration, and a broken one changes nothing', async () => {
    await shell(`printf '[[keep]]\\nspec = "9090"\\n' >${CONFIG}; systemctl reload natward`);
    await until(`${process.execPath} /opt/natward/natward.cjs status | grep -q 9090`);
    await shell(`echo nonsense >${CONFIG}; systemctl reload natward`);
    const status = `${process.execPath} /opt/natward/natward.cjs status`;
    await until(`${status} | grep -q 'config.toml:'`);
    expect(await shell(status)).toContain('9090');
    await shell(`printf '[[keep]]\\nspec = "8080"\\n' >${CONFIG}; systemctl reload natward`);
  });

  test('an agent that was killed is started again, and holds what it held', async () => {
    const pid = await shown('MainPID');
    await shell(`kill -KILL ${pid}`);
    await until(`[ "$(systemctl show --value --property=NRestarts natward)" = 1 ]`);
    await until(kept);
    expect(await rowsOf(lab())).toEqual([rule('tcp', 8080)]);
  });

  test('one that hangs is ended by the watchdog and started again', async () => {
    const drop = '/etc/systemd/system/natward.service.d';
    await shell(`mkdir ${drop}; printf '[Service]\\nWatchdogSec=3\\n' >${drop}/watchdog.conf`);
    await shell('systemctl daemon-reload; systemctl restart natward');
    const pid = await shown('MainPID');
    await shell(`kill -STOP ${pid}`);
    await until(`[ "$(systemctl show --value --property=NRestarts natward)" = 1 ]`);
    expect(await shell('journalctl --unit natward --no-pager')).toContain('Watchdog timeout');
    await shell(`rm -r ${drop}; systemctl daemon-reload`);
  });

  test('logs are the journal’s, with their times', async () => {
    const { stdout } = await natward('service logs --lines 1000');
    expect(stdout).toMatch(/^\w{3} \d\d [\d:]{8} .* listens on \/run\/natward\/control\.sock$/m);
  });

  test('one that does not start leaves the one before running', async () => {
    await shell('cp -r /opt/natward /opt/locked; chmod 700 /opt/locked');
    const result = await natward('service install', `${process.execPath} /opt/locked`);
    expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('journalctl --unit natward') });
    expect(await shown('ActiveState')).toBe('active');
    expect(await shown('ExecStart')).toContain('/opt/natward/natward.cjs');
  });

  test('uninstall releases what was mapped, and leaves no unit', async () => {
    await until(kept);
    expect(await natward('service uninstall')).toMatchObject({ code: 0, stderr: '' });
    expect(await rowsOf(lab())).toEqual([]);
    expect(await shown('LoadState')).toBe('not-found');
    expect(await natward('service status')).toMatchObject({
      code: 1,
      stdout: 'not-installed: not installed\n',
    });
  });

  test('one that never started leaves neither a unit nor a link to it', async () => {
    expect(await natward('service install', `${process.execPath} /opt/locked`)).toMatchObject({ code: 1 });
    expect(await shown('LoadState')).toBe('not-found');
    expect(await shell('find /etc/systemd/system -name "natward*"')).toBe('');
  });

  test.each(['/home/me', '/root', '/opt/50% of $HOME'])('Node and natward may lie in %s', async (place) => {
    await shell(`mkdir -p '${place}/bin'; chmod 700 /root; [ ! -d /home/me ] || chmod 750 /home/me`);
    await shell(`cp ${process.execPath} '${place}/bin/node'; cp -r /opt/natward '${place}'`);
    const from = `'${place}/bin/node' '${place}/natward'`;
    expect(await natward('service install', from)).toMatchObject({ code: 0, stderr: '' });
    expect(await shown('ActiveState')).toBe('active');
    expect(await shell(`readlink /proc/${await shown('MainPID')}/exe`)).toBe(`${place}/bin/node\n`);
    expect(await natward('service uninstall')).toMatchObject({ code: 0 });
  });
});

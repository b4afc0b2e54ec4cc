/**
 * The unit by which systemd runs the agent, as text. Pure. The system's unit gives it a user of its own and takes away all
 * that it does not need; a user's manager can give less and take less (docs/decisions/0010-service.md).
 */

import { posix } from 'node:path';
import { NatwardError } from '../../errors.ts';

export interface UnitSettings {
  /** Absolute paths: the interpreter, then the program. */
  readonly command: readonly [string, string];
  readonly scope: 'system' | 'user';
}

export const UNIT_NAME = 'natward.service';
/** By its first line a unit is known to be ours. */
export const MARK = '# Written by natward service install; natward service uninstall removes it.';
/** As long as the agent may be silent before systemd starts another. */
const WATCHDOG_SECONDS = 60;

/** What systemd itself gives to services that ask for much; where the hard limit is lower, that one counts. */
const FILE_LIMIT = 524_288;

/** Throws USAGE where a path cannot stand in a unit. */
export function systemdUnit({ command, scope }: UnitSettings): string {
  const [node, program] = command;
  const start = [executable(node), argument(program), 'agent'].join(' ');
  const system = scope === 'system';
  return [
    MARK,
    '[Unit]',
    'Description=natward port-mapping agent',
    ...(system ? ['Wants=network-online.target', 'After=network-online.target'] : []),
    '',
    '[Service]',
    `ExecStart=${start}`,
    'ExecReload=/bin/kill -HUP $MAINPID',
    'Type=notify',
    '# Node cannot send to a datagram socket of systemd: systemd-notify, a child, does.',
    'NotifyAccess=all',
    `WatchdogSec=${WATCHDOG_SECONDS}`,
    'Restart=on-failure',
    'RestartSec=2',
    'TimeoutStopSec=10',
    'UMask=0077',
    '# Each conversation that the rules carry takes two, each port that they listen on one.',
    `LimitNOFILE=${FILE_LIMIT}`,
    "# A dump of the agent's memory would hold the passwords of its hooks.",
    'LimitCORE=0',
    ...(system ? systemSandbox(command) : USER_SANDBOX),
    '',
    '[Install]',
    `WantedBy=${system ? 'multi-user.target' : 'default.target'}`,
    '',
  ].join('\n');
}

const CAPABILITIES = 'CAP_NET_BIND_SERVICE CAP_NET_ADMIN';

/** What any manager can do for a process that needs no privileges. */
const USER_SANDBOX: readonly string[] = [
  'NoNewPrivileges=yes',
  'LockPersonality=yes',
  'RestrictRealtime=yes',
  'RestrictSUIDSGID=yes',
  'RestrictNamespaces=yes',
  'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  'SystemCallArchitectures=native',
  'SystemCallFilter=@system-service',
  'SystemCallFilter=~@privileged',
  'SystemCallErrorNumber=EPERM',
];

function systemSandbox(command: UnitSettings['command']): readonly string[] {
  return [
    'DynamicUser=yes',
    'StateDirectory=natward',
    'StateDirectoryMode=0700',
    'RuntimeDirectory=natward',
    'RuntimeDirectoryMode=0700',
    'ConfigurationDirectory=natward',
    ...USER_SANDBOX,
    "# Rules may listen below port 1024, or be the kernel's: nft, conntrack and ip inherit what changes its tables.",
    '# In a user namespace (PrivateUsers=) neither would be worth anything.',
    `CapabilityBoundingSet=${CAPABILITIES}`,
    `AmbientCapabilities=${CAPABILITIES}`,
    'ProtectSystem=strict',
    ...homes(command),
    'PrivateTmp=yes',
    'PrivateDevices=yes',
    'ProtectClock=yes',
    'ProtectControlGroups=yes',
    'ProtectHostname=yes',
    'ProtectKernelLogs=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelTunables=yes',
    "# Of those the network's alone: forwarding, and conntrack that counts.",
    'ReadWritePaths=-/proc/sys/net',
    'PrivateMounts=yes',
    'ProtectProc=invisible',
    'RemoveIPC=yes',
    '# No MemoryDenyWriteExecute: V8 writes the code that it runs.',
  ];
}

/**
 * Under a home directory (nvm, npm's own prefix) are the interpreter and the program of many a machine, and the service's
 * user may not enter it. They alone are mounted where all homes are hidden: a directory on the way to them is made anew.
 */
function homes([node, program]: UnitSettings['command']): readonly string[] {
  const needed = [node, posix.dirname(program)].filter((path) => /^\/(home|root|run\/user)\//.test(path));
  if (needed.length === 0) return ['ProtectHome=yes'];
  return ['ProtectHome=tmpfs', `BindReadOnlyPaths=${needed.map(mounted).join(' ')}`];
}

/** The program of a command line: systemd takes no quotes and backslashes in it, and no variables. */
function executable(path: string): string {
  if (/["'\\]/.test(path)) {
    throw new NatwardError(
      'USAGE',
      `${path} cannot be started by systemd: there is a quote or a backslash in it`,
    );
  }
  return quoted(path);
}

/** What follows it: `$` begins a variable (systemd.service(5)). */
function argument(word: string): string {
  return quoted(word).replaceAll('$', '$$$$');
}

function mounted(path: string): string {
  if (/["'\\:]/.test(path)) {
    throw new NatwardError(
      'USAGE',
      `${path} cannot be mounted by systemd: there is a quote, a backslash or a colon in it`,
    );
  }
  return quoted(path);
}

/** systemd.syntax(7), systemd.unit(5): quotes, backslashes and specifiers. */
function quoted(word: string): string {
  if (/\p{Cc}/u.test(word)) {
    throw new NatwardError(
      'USAGE',
      `${JSON.stringify(word)} cannot stand in a unit: it holds a control character`,
    );
  }
  const escaped = word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%');
  return `"${escaped}"`;
}

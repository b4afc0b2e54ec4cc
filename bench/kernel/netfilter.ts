/** The kernel's own tools, by hand: the floor of what rules in the kernel can cost, and how people write many of them. */

import { ROUTER, type Network, SERVER } from '../relay/network.ts';
import { type Forward, lines, type Protocol, single } from '../relay/programs.ts';
import type { KernelProgram, Table } from './programs.ts';

const LIMIT_MS = 120_000;

/** Of one network: how its rules are written, and how one of them is changed. */
interface Language {
  readonly name: string;
  readonly tool: readonly string[];
  readonly manyOnly?: true;
  readonly protocols?: readonly Protocol[];
  readonly rules: (forward: Forward) => string;
  /** Read by the tool as well. */
  readonly edit: (network: Network, forward: Forward, at: number, serverPort: number) => Promise<string>;
  readonly read: readonly string[];
}

const NFT_TOOL: readonly string[] = ['nft', '-f', '-'];
const TABLE = 'ip bench';

async function tell(network: Network, command: readonly string[], input: string): Promise<number> {
  const startedMs = performance.now();
  const { code, stderr } = await network.run('router', command, LIMIT_MS, { input });
  const ms = performance.now() - startedMs;
  if (code !== 0) throw new Error(`${command.join(' ')}: exit ${code}: ${stderr.slice(0, 400)}`);
  return ms;
}

async function answer(network: Network, command: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await network.run('router', command, LIMIT_MS);
  if (code !== 0) throw new Error(`${command.join(' ')}: exit ${code}: ${stderr.slice(0, 400)}`);
  return stdout;
}

function program({ name, tool, manyOnly, protocols, rules, edit, read }: Language): KernelProgram {
  return {
    name,
    protocols: protocols ?? ['tcp', 'udp'],
    many: ['rules'],
    ...(manyOnly === undefined ? {} : { manyOnly }),
    commandLine: `${tool.join(' ')} | ${rules(single('tcp', 7000, 5000))
      .trim()
      .replace(/\s*\n\s*/g, ' | ')}`,
    async start(network, forward) {
      const toldAtMs = performance.now();
      const told = tell(network, tool, rules(forward)).then(() => undefined);
      return { host: ROUTER, port: forward.port, process: undefined, toldAtMs, told };
    },
    open: async (network): Promise<Table> => ({
      apply: (forward) => tell(network, tool, rules(forward)),
      edit: async (forward, at, serverPort) =>
        await tell(network, tool, await edit(network, forward, at, serverPort)),
      async read() {
        const startedMs = performance.now();
        await answer(network, read);
        return performance.now() - startedMs;
      },
    }),
  };
}

/** The table, which is made anew, with a chain for each hook. */
function table(...chains: readonly string[]): string {
  return `table ${TABLE} {}\ndelete table ${TABLE}\ntable ${TABLE} {\n${chains.join('\n')}\n}\n`;
}

/** A filter that asks for a conversation's state is what brings conntrack into a network. */
export const ROUTED_CONNTRACK: KernelProgram = {
  name: 'routed+conntrack',
  protocols: ['tcp', 'udp'],
  many: [],
  commandLine: conntrack()
    .trim()
    .replace(/\s*\n\s*/g, ' | '),
  async start(network, { serverPort }) {
    const toldAtMs = performance.now();
    await tell(network, NFT_TOOL, conntrack());
    return { host: SERVER, port: serverPort, process: undefined, toldAtMs };
  },
};

function conntrack(): string {
  return table(
    'chain forward {\ntype filter hook forward priority 0; policy accept;\nct state established,related accept\n}',
  );
}

const element = (port: number, serverPort: number): string => `${port} : ${SERVER} . ${serverPort}`;

/** One rule as it would be written for it alone; many as a map. */
function mapped(forward: Forward): string[] {
  const { protocol, port, ports, serverPort } = forward;
  const hook = 'type nat hook prerouting priority -100; policy accept;';
  if (ports === 1)
    return [
      `chain pre {\n${hook}\nip daddr ${ROUTER} ${protocol} dport ${port} dnat to ${SERVER}:${serverPort}\n}`,
    ];
  const elements = Array.from({ length: ports }, (_, at) => element(port + at, serverPort)).join(', ');
  return [
    `map targets {\ntype inet_service : ipv4_addr . inet_service\nelements = { ${elements} }\n}`,
    `chain pre {\n${hook}\nip daddr ${ROUTER} dnat ip to ${protocol} dport map @targets\n}`,
  ];
}

const MAP: Pick<Language, 'tool' | 'edit' | 'read'> = {
  tool: NFT_TOOL,
  edit: async (_, forward, at, serverPort) =>
    `delete element ${TABLE} targets { ${forward.port + at} }\nadd element ${TABLE} targets { ${element(forward.port + at, serverPort)} }\n`,
  read: ['nft', '-j', 'list', 'map', ...TABLE.split(' '), 'targets'],
};

export const NFT: KernelProgram = program({
  name: 'nft',
  ...MAP,
  rules: (forward) => table(...mapped(forward)),
});

/** As natward does where nothing else is said: the target sees this host. */
export const NFT_MASQUERADE: KernelProgram = program({
  name: 'nft, masquerade',
  ...MAP,
  rules: (forward) =>
    table(
      ...mapped(forward),
      'chain post {\ntype nat hook postrouting priority 100; policy accept;\nct status dnat masquerade\n}',
    ),
});

interface NftDocument {
  readonly nftables: readonly { readonly rule?: { readonly handle: number } }[];
}

/** By network: the kernel's numbers of the rules, read once. */
const handles = new WeakMap<Network, readonly number[]>();

async function handlesIn(network: Network): Promise<readonly number[]> {
  const known = handles.get(network);
  if (known !== undefined) return known;
  const document: NftDocument = JSON.parse(
    await answer(network, ['nft', '-j', '-a', 'list', 'table', ...TABLE.split(' ')]),
  );
  const found = document.nftables.flatMap(({ rule }) => rule?.handle ?? []);
  handles.set(network, found);
  return found;
}

/** A rule after the other. */
const linear = ({ protocol }: Forward, port: string, serverPort: number): string =>
  `ip daddr ${ROUTER} ${protocol} dport ${port} counter dnat to ${SERVER}:${serverPort}`;

export const NFT_LINEAR: KernelProgram = program({
  name: 'nft, linear',
  manyOnly: true,
  tool: NFT_TOOL,
  rules: (forward) =>
    table(
      `chain pre {\ntype nat hook prerouting priority -100; policy accept;\n${lines(forward, (port) => linear(forward, port, forward.serverPort))}\n}`,
    ),
  edit: async (network, forward, at, serverPort) =>
    `replace rule ${TABLE} pre handle ${(await handlesIn(network))[at]} ${linear(forward, String(forward.port + at), serverPort)}\n`,
  read: ['nft', '-j', 'list', 'table', ...TABLE.split(' ')],
});

const iptables = ({ protocol }: Forward, port: string, serverPort: number): string =>
  `-d ${ROUTER}/32 -p ${protocol} -m ${protocol} --dport ${port} -j DNAT --to-destination ${SERVER}:${serverPort}`;

export const IPTABLES: KernelProgram = program({
  name: 'iptables',
  manyOnly: true,
  tool: ['iptables-restore', '--noflush'],
  rules: (forward) =>
    `*nat\n${lines(forward, (port) => `-A PREROUTING ${iptables(forward, port, forward.serverPort)}`)}\nCOMMIT\n`,
  edit: async (_, forward, at, serverPort) =>
    `*nat\n-R PREROUTING ${at + 1} ${iptables(forward, String(forward.port + at), serverPort)}\nCOMMIT\n`,
  read: ['iptables-save', '-c', '-t', 'nat'],
});

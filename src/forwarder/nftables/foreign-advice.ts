/** What a user may do about a drop in somebody else's table: by that program's own command where we know it. Pure. */

import type { Packet } from './foreign-field.ts';
import type { BaseChain, ForeignTable } from './foreign-ruleset.ts';

/** The tables that iptables-nft keeps; its base chains have the hooks' names in capitals. */
const IPTABLES: ReadonlySet<string> = new Set(['filter', 'mangle', 'nat', 'raw', 'security']);

export function advice(base: BaseChain, packet: Packet): string {
  const { table, hook } = base;
  if (hasChain(table, /^ufw6?-/)) {
    const command = ufwCommand(hook, packet);
    if (command !== undefined) return `this is ufw: ${command}`;
  }
  if (table.name === 'firewalld') return `this is firewalld: ${firewalldCommand(hook, packet)}`;
  const isIptables = base.name === hook.toUpperCase() && IPTABLES.has(table.name) && table.family !== 'inet';
  if (isIptables) {
    const program = table.family === 'ip6' ? 'ip6tables' : 'iptables';
    if (hook === 'forward' && table.name === 'filter' && table.chains.has('DOCKER-USER')) {
      const rest = `${iptablesMatch(packet)} -j ACCEPT`;
      return `docker set this; its chain for others' rules: ${program} -I DOCKER-USER ${rest}`;
    }
    const where = table.name === 'filter' ? '' : `-t ${table.name} `;
    return `${program} ${where}-I ${base.name} ${iptablesMatch(packet)} -j ACCEPT, and keep it where that firewall keeps its rules`;
  }
  const rule = packet.isTranslated ? 'ct status dnat accept' : `${nftMatch(packet)} accept`;
  const command = `nft insert rule ${table.family} ${word(table.name)} ${word(base.name)} ${rule}`;
  return `${command}, and the same line into the file that this table is loaded from`;
}

function ufwCommand(hook: string, { protocol, destination, destinationPort }: Packet): string | undefined {
  const port = destinationPort === undefined ? '' : ` port ${destinationPort}`;
  switch (hook) {
    case 'forward':
      return `ufw route allow proto ${protocol} to ${destination ?? 'any'}${port}`;
    case 'input':
      return `ufw allow proto ${protocol} to any${port}`;
    case 'output':
      return `ufw allow out proto ${protocol} to ${destination ?? 'any'}${port}`;
    default:
      return undefined;
  }
}

function firewalldCommand(hook: string, { family, protocol, destination, destinationPort }: Packet): string {
  const port = destinationPort ?? '1-65535';
  if (hook === 'input') {
    return `firewall-cmd --permanent --add-port=${port}/${protocol} (with --zone=, the zone it comes in by), then firewall-cmd --reload`;
  }
  const to = destination === undefined ? '' : ` destination address=${destination}`;
  const rule = `rule family=ipv${family}${to} port port=${port} protocol=${protocol} accept`;
  return `a policy between the two zones (firewall-cmd --permanent --new-policy), with --add-rich-rule='${rule}', then firewall-cmd --reload`;
}

// `DNAT` passes answers as well, which the chain may drop like what they answer.
function iptablesMatch({ isTranslated, protocol, destination, destinationPort }: Packet): string {
  if (isTranslated) return '-m conntrack --ctstate DNAT';
  const to = destination === undefined ? '' : ` -d ${destination}`;
  return `-p ${protocol}${to}${destinationPort === undefined ? '' : ` --dport ${destinationPort}`}`;
}

function nftMatch({ family, protocol, destination, destinationPort }: Packet): string {
  const to = destination === undefined ? '' : `${family === 4 ? 'ip' : 'ip6'} daddr ${destination} `;
  return `${to}${destinationPort === undefined ? `meta l4proto ${protocol}` : `${protocol} dport ${destinationPort}`}`;
}

function hasChain({ chains }: ForeignTable, pattern: RegExp): boolean {
  return [...chains.keys()].some((name) => pattern.test(name));
}

// What nobody should paste into a shell is not printed as if one could.
function word(name: string): string {
  return /^[\w./-]+$/.test(name) ? name : '...';
}

/**
 * The gateway's kernel: the nftables table that miniupnpd fills, what is in it, and faults on the wire.
 * Text only; running `nft` is left to the lab.
 */

/** One port that the gateway forwards, as its kernel does it. */
export interface NatRule {
  readonly protocol: 'tcp' | 'udp';
  readonly externalPort: number;
  readonly internalClient: string;
  readonly internalPort: number;
}

export interface Fault {
  /**
   * What is hit. `announcements` are the gateway's own (SSDP NOTIFY, 224.0.0.1:5350); `http` is every TCP
   * connection to the gateway; `ssdp` is both kinds of search.
   */
  readonly protocol: 'pcp' | 'natpmp' | 'ssdp' | 'ssdp-multicast' | 'ssdp-unicast' | 'http' | 'announcements';
  /** `drop` (the default) is silence; `reject` is ICMP port unreachable, or a TCP reset. */
  readonly how?: 'drop' | 'reject';
  /** `replies` lets the gateway act and loses what it says about it. Default `requests`. */
  readonly lose?: 'requests' | 'replies';
  /** Hits the first so many packets only, and lets all later ones pass. */
  readonly firstPackets?: number;
  /** Hits so many packets of a hundred, at random. */
  readonly lossPercent?: number;
}

/** The table that miniupnpd expects to find, as a firewall script of a router makes it, freshly loaded. */
export const GATEWAY_TABLE = `
table inet filter
delete table inet filter
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy accept;
    jump miniupnpd
    # IPv6 has no NAT to hide behind: what no pinhole lets in stays out.
    iifname "ext0" meta nfproto ipv6 ct state != { established, related } drop
  }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; policy accept; jump prerouting_miniupnpd; }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump postrouting_miniupnpd
    oifname "ext0" meta nfproto ipv4 masquerade
  }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
`;

/** What lets the hosts behind `lan` out, as a program for containers makes it. */
export const MASQUERADE_TABLE = `
table ip containers {
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 10.77.0.0/24 oifname != "inner0" masquerade
  }
}
`;

/** The lab's own table: `silence` for the protocols the gateway shall not speak, the others for faults. */
export const FAULT_TABLE = `
table inet natward_lab {
  chain silence { type filter hook input priority -11; }
  chain requests { type filter hook input priority -10; }
  chain replies { type filter hook output priority -10; }
}
`;

/** Silences PCP or NAT-PMP where the gateway speaks only the other: miniupnpd itself knows both or none. */
export function silenceCommands(spoken: { readonly pcp?: boolean; readonly natpmp?: boolean }): string {
  const { pcp = true, natpmp = true } = spoken;
  const lines = ['flush chain inet natward_lab silence'];
  if (pcp !== natpmp)
    lines.push(`add rule inet natward_lab silence ${REQUESTS[pcp ? 'natpmp' : 'pcp']} drop`);
  return lines.join('\n');
}

export function faultCommand(fault: Fault): string {
  const { protocol, how = 'drop', lose = 'requests', firstPackets, lossPercent } = fault;
  const outwards = lose === 'replies' || protocol === 'announcements';
  const parts = [outwards ? 'oifname "int0"' : 'iifname "int0"', (outwards ? REPLIES : REQUESTS)[protocol]];
  // A counter that starts at 0 and goes up with each packet that matched so far.
  if (firstPackets !== undefined) parts.push(`numgen inc mod 2147483647 < ${firstPackets}`);
  if (lossPercent !== undefined) parts.push(`numgen random mod 100 < ${lossPercent}`);
  if (how === 'drop') parts.push('drop');
  else parts.push(protocol === 'http' ? 'reject with tcp reset' : 'reject with icmpx type port-unreachable');
  return `add rule inet natward_lab ${outwards ? 'replies' : 'requests'} ${parts.join(' ')}`;
}

export const UNBLOCK_COMMANDS = 'flush chain inet natward_lab requests\nflush chain inet natward_lab replies';

// `@th,64,8` is the first byte after the UDP header: the version, 2 in PCP and 0 in NAT-PMP.
const REQUESTS: Readonly<Record<Fault['protocol'], string>> = {
  pcp: 'udp dport 5351 @th,64,8 2',
  natpmp: 'udp dport 5351 @th,64,8 0',
  ssdp: 'udp dport 1900',
  'ssdp-multicast': 'meta pkttype multicast udp dport 1900',
  'ssdp-unicast': 'meta pkttype host udp dport 1900',
  http: 'meta l4proto tcp',
  announcements: '',
};

const REPLIES: Readonly<Record<Fault['protocol'], string>> = {
  pcp: 'udp sport 5351 @th,64,8 2',
  natpmp: 'udp sport 5351 @th,64,8 0',
  ssdp: 'udp sport 1900',
  'ssdp-multicast': 'udp sport 1900',
  'ssdp-unicast': 'udp sport 1900',
  http: 'meta l4proto tcp',
  announcements: 'udp dport { 1900, 5350 }',
};

interface Payload {
  readonly base?: string;
  readonly offset?: number;
  readonly field?: string;
}

interface Expression {
  readonly match?: {
    readonly left: { readonly payload?: Payload; readonly meta?: { readonly key: string } };
    readonly right: unknown;
  };
  readonly dnat?: { readonly addr: string; readonly port: number };
  readonly accept?: null;
}

interface Listing {
  readonly nftables: readonly {
    readonly rule?: { readonly chain: string; readonly expr: readonly Expression[] };
  }[];
}

/** The redirects in `nft -j list ruleset`, in the order of their external ports. */
export function parseNatRules(json: string): NatRule[] {
  const listing: Listing = JSON.parse(json);
  const rules: NatRule[] = [];
  for (const { rule } of listing.nftables) {
    if (rule?.chain !== 'prerouting_miniupnpd') continue;
    const { dnat } = rule.expr.find((expression) => expression.dnat) ?? {};
    const protocol = matched(rule.expr, isProtocol);
    const externalPort = matched(rule.expr, ({ field }) => field === 'dport');
    if (dnat === undefined || typeof externalPort !== 'number') continue;
    rules.push({
      protocol: protocol === 17 || protocol === 'udp' ? 'udp' : 'tcp',
      externalPort,
      internalClient: dnat.addr,
      internalPort: dnat.port,
    });
  }
  return rules.sort((a, b) => a.externalPort - b.externalPort || a.protocol.localeCompare(b.protocol));
}

// miniupnpd asks for byte 9 of the IPv4 header (bit 72), where newer nftables prints the field's name.
function isProtocol({ base, offset, field }: Payload): boolean {
  return field === 'protocol' || (base === 'nh' && offset === 72);
}

function matched(expressions: readonly Expression[], wanted: (payload: Payload) => boolean): unknown {
  for (const { match } of expressions) {
    if (match?.left.payload && wanted(match.left.payload)) return match.right;
  }
  return undefined;
}

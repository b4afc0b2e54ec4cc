/**
 * The configuration of the gateway for other programs, `[[respond]]`: on which interfaces it answers, whom, and what
 * each client may have. Pure; what the section does not say has its default here.
 */

import * as v from 'valibot';
import { type AccessList, compileAccess, formatAccessList, parseAccessList } from '../forwarder/access.ts';
import { type IpAddress, sameNetwork } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';
import { parsePortSet, portRanges } from '../net/port-set.ts';
import { MAPPING_PROTOCOLS, type MappingProtocol } from '../net/protocol.ts';
import type { ClientRights, RightsOf } from '../responder/rights.ts';
import { read, usage, whole, yesOrNo } from './config-value.ts';

/** What one interface's section says. */
export interface RespondSection {
  readonly interface: string;
  /** Whom it answers. */
  readonly clients: AccessList;
  readonly protocols: readonly MappingProtocol[];
  readonly igdVersion: 1 | 2;
  /** What control points show; undefined: natward and the host's name. */
  readonly name: string | undefined;
  /** Of each client for which nothing else is said. */
  readonly rights: Omit<ClientRights, 'mayMapForOthers'>;
  /** Those who may map for others of their network. */
  readonly trusted: AccessList | undefined;
  readonly clientSections: readonly ClientSection[];
}

/** What is said of one host or network alone; the rest is as its interface says. */
interface ClientSection {
  readonly network: Network;
  readonly deny: boolean;
  readonly rights: { readonly [Key in keyof ClientRights]?: ClientRights[Key] | undefined };
}

interface Network {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

export const DEFAULT_MAX_MAPPINGS = 1024;
export const HIGHEST_MAX_MAPPINGS = 60_000;

const DEFAULT_PORTS = '1024-65535';
const DEFAULT_CLIENT_MAPPINGS = 32;
const DEFAULT_REQUESTS_PER_SECOND = 50;
const MAX_REQUESTS_PER_SECOND = 100_000;
const MAX_CLIENT_SECTIONS = 1000;
/** UPnP Device Architecture 1.1, section 2.3: fewer than 64. */
const MAX_NAME_LENGTH = 63;

/** Hosts ask from addresses: what depends on a look-up of names would let in whoever controls the names. */
const clientList: v.GenericSchema<unknown, AccessList> = read((text) => {
  const list = parseAccessList(text);
  for (const pattern of list.lists.flat()) {
    if (pattern.kind === 'name' || pattern.kind === 'domain' || pattern.kind === 'local') {
      const word = formatAccessList({ lists: [[pattern]] });
      throw usage(
        `"${word}" is no address: clients of the gateway are named by addresses and networks alone`,
      );
    }
  }
  return list;
});

const ports: v.GenericSchema<unknown, readonly PortRange[]> = read((text) =>
  portRanges(parsePortSet(text.replace(/\s+/g, ''))),
);

const network: v.GenericSchema<unknown, Network> = read((text) => {
  const [[pattern] = [], ...others] = parseAccessList(text).lists;
  const isOne = others.length === 0 && !/[\s,]/.test(text.trim());
  if (!isOne || pattern?.kind !== 'network') throw usage(`"${text}" is no address and no network`);
  return { address: pattern.address, prefixLength: pattern.prefixLength };
});

const clientMappings = whole(1, HIGHEST_MAX_MAPPINGS);
const requestsPerSecond = whole(1, MAX_REQUESTS_PER_SECOND);

const clientEntries = {
  address: network,
  deny: v.optional(yesOrNo, false),
  ports: v.optional(ports),
  maxMappings: v.optional(clientMappings),
  requestsPerSecond: v.optional(requestsPerSecond),
  mayMapForOthers: v.optional(yesOrNo),
};

const clientSchema: v.GenericSchema<unknown, ClientSection> = v.pipe(
  v.strictObject(clientEntries),
  v.transform(({ address, deny, ports: externalPorts, ...rights }) => ({
    network: address,
    deny,
    rights: { externalPorts, ...rights },
  })),
);

const clientsOnce = v.rawCheck<ClientSection[]>(({ dataset, addIssue }) => {
  if (!dataset.typed) return;
  const seen = new Set<string>();
  for (const [key, value] of dataset.value.entries()) {
    const { address, prefixLength } = value.network;
    const what = `${address}/${prefixLength}`;
    const path = { type: 'array', origin: 'value', input: dataset.value, key, value } as const;
    if (seen.has(what)) addIssue({ message: `another section is for ${address} already`, path: [path] });
    seen.add(what);
  }
});

const protocolList = v.pipe(
  v.array(v.picklist(MAPPING_PROTOCOLS, 'write "pcp", "natpmp" or "upnp"'), 'write a list: ["pcp", "upnp"]'),
  v.minLength(1, 'name one protocol at least'),
  v.transform((named) => MAPPING_PROTOCOLS.filter((protocol) => named.includes(protocol))),
);

const respondEntries = {
  interface: v.pipe(
    v.string('write it as text, in quotes'),
    v.check(
      (name) => name.trim() === name && /^\P{Cc}{1,256}$/u.test(name),
      'it is no name of a network interface',
    ),
  ),
  clients: v.optional(clientList, 'ALL'),
  ports: v.optional(ports, DEFAULT_PORTS),
  maxMappings: v.optional(clientMappings, DEFAULT_CLIENT_MAPPINGS),
  requestsPerSecond: v.optional(requestsPerSecond, DEFAULT_REQUESTS_PER_SECOND),
  trusted: v.optional(clientList),
  protocols: v.optional(protocolList, [...MAPPING_PROTOCOLS]),
  igdVersion: v.optional(v.picklist([1, 2], 'write 1 or 2'), 2),
  name: v.optional(
    v.pipe(
      v.string('write it as text, in quotes'),
      v.check(
        (name) => name.trim() !== '' && name.length <= MAX_NAME_LENGTH && !/\p{Cc}/u.test(name),
        `1 to ${MAX_NAME_LENGTH} characters in one line`,
      ),
    ),
  ),
  client: v.optional(
    v.pipe(
      v.array(clientSchema),
      v.maxLength(MAX_CLIENT_SECTIONS, `at most ${MAX_CLIENT_SECTIONS} of them`),
      clientsOnce,
    ),
    [],
  ),
};

/** What may stand in the tables, for hints. */
export const RESPOND_KEYS: Readonly<Record<'respond' | 'client', readonly string[]>> = {
  respond: Object.keys(respondEntries),
  client: Object.keys(clientEntries),
};

export const respondSchema: v.GenericSchema<unknown, RespondSection> = v.pipe(
  v.strictObject(respondEntries),
  v.transform((said) => ({
    interface: said.interface,
    clients: said.clients,
    protocols: said.protocols,
    igdVersion: said.igdVersion,
    name: said.name,
    rights: {
      externalPorts: said.ports,
      maxMappings: said.maxMappings,
      requestsPerSecond: said.requestsPerSecond,
    },
    trusted: said.trusted,
    clientSections: said.client,
  })),
);

export const interfacesOnce: v.RawCheckAction<RespondSection[]> = v.rawCheck(({ dataset, addIssue }) => {
  if (!dataset.typed) return;
  const seen = new Set<string>();
  for (const [key, value] of dataset.value.entries()) {
    const item = { type: 'array', origin: 'value', input: dataset.value, key, value } as const;
    const name = value.interface;
    const field = { type: 'object', origin: 'value', input: {}, key: 'interface', value: name } as const;
    if (seen.has(name)) addIssue({ message: `another section is for ${name} already`, path: [item, field] });
    seen.add(name);
  }
});

/** The file's sections, and one with the defaults for each other interface that is `named` at the start. */
export function respondSections(
  configured: readonly RespondSection[],
  named: readonly string[],
): readonly RespondSection[] {
  const known = new Set(configured.map((section) => section.interface));
  const others = [...new Set(named)].filter((name) => !known.has(name));
  return [...configured, ...others.map(defaultSection)];
}

/** Throws USAGE where the name cannot be an interface's. */
export function defaultSection(name: string): RespondSection {
  const result = v.safeParse(respondSchema, { interface: name });
  if (!result.success) throw usage(`--respond-on "${name}": ${result.issues[0].message}`);
  return result.output;
}

/** What the section gives to whom. */
export function rightsFrom(section: RespondSection): RightsOf {
  const isClient = compileAccess(section.clients);
  const isTrusted = section.trusted === undefined ? () => false : compileAccess(section.trusted);
  // The narrowest network that has a client decides about it.
  const sections = [...section.clientSections].sort(
    (a, b) => b.network.prefixLength - a.network.prefixLength,
  );
  return (client) => {
    if (!isClient({ address: client })) return undefined;
    const own = sections.find(({ network: { address, prefixLength } }) =>
      sameNetwork(client, address, prefixLength),
    );
    if (own?.deny) return undefined;
    const { rights } = section;
    return {
      externalPorts: own?.rights.externalPorts ?? rights.externalPorts,
      maxMappings: own?.rights.maxMappings ?? rights.maxMappings,
      requestsPerSecond: own?.rights.requestsPerSecond ?? rights.requestsPerSecond,
      mayMapForOthers: own?.rights.mayMapForOthers ?? isTrusted({ address: client }),
    };
  };
}

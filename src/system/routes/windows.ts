/**
 * The routing table of Windows, asked of PowerShell's `Get-NetRoute` as JSON: `route print` speaks the language of
 * the installation, and `wmic` is gone since Windows 11 24H2. An interface is named by its alias, as in
 * `os.networkInterfaces()`; a zone is its index, the only form that Windows takes in an address. The metric is the
 * sum of the route's and the interface's (Get-NetRoute, description).
 */

import { ANY_IPV4, ANY_IPV6 } from '../../net/address.ts';
import { DESTINATIONS, nextHop, type RouteEntry } from './default.ts';

/**
 * The whole table is read and then filtered: Get-NetRoute takes a prefix that has no route for an error, which
 * could not be told from a real one. Without the encoding an alias such as `Conexión` comes in the console's code
 * page; where it cannot be set (a locked-down language mode) the rest is still right. No double quotes: they would
 * have to survive the command line.
 */
const SCRIPT = [
  `$ErrorActionPreference = 'Stop'`,
  `try { [Console]::OutputEncoding = New-Object Text.UTF8Encoding $false } catch { }`,
  `$wanted = @(${DESTINATIONS.map((destination) => `'${destination}'`).join(',')})`,
  [
    'Get-NetRoute',
    'Where-Object { $wanted -contains $_.DestinationPrefix }',
    'Select-Object DestinationPrefix,NextHop,InterfaceAlias,InterfaceIndex,RouteMetric,InterfaceMetric',
    'ConvertTo-Json -Compress',
  ].join(' | '),
].join('; ');

export const POWERSHELL_ARGUMENTS: readonly string[] = [
  '-NoLogo',
  '-NoProfile',
  '-NonInteractive',
  '-Command',
  SCRIPT,
];

/** By its full path: Windows looks for a bare name in the working directory first. */
export function powershell(systemRoot: string | undefined): string {
  return `${systemRoot ?? 'C:\\Windows'}\\System32\\WindowsPowerShell\\v1.0\\powershell.exe`;
}

/** The entries that a default route is made of; undefined where the answer is no JSON. Skips odd entries. */
export function parseNetRoutes(text: string): RouteEntry[] | undefined {
  const json = text.trim(); // takes a byte order mark along
  if (json === '') return []; // ConvertTo-Json says nothing of nothing
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return undefined;
  }
  // Windows PowerShell writes a list of one as the one.
  return (Array.isArray(parsed) ? parsed : [parsed]).flatMap((item: unknown) => entryOf(item) ?? []);
}

function entryOf(item: unknown): RouteEntry | undefined {
  if (typeof item !== 'object' || item === null) return undefined;
  const fields = new Map<string, unknown>(Object.entries(item));
  const destination = fields.get('DestinationPrefix');
  const [hop, name, index] = [
    fields.get('NextHop'),
    fields.get('InterfaceAlias'),
    fields.get('InterfaceIndex'),
  ];
  const [routeMetric, interfaceMetric] = [fields.get('RouteMetric'), fields.get('InterfaceMetric')];
  if (typeof destination !== 'string' || !DESTINATIONS.includes(destination)) return undefined;
  if (typeof hop !== 'string' || typeof name !== 'string' || name === '') return undefined;
  if (!Number.isInteger(index) || typeof routeMetric !== 'number') return undefined;
  const isOnLink = hop === ANY_IPV4 || hop === ANY_IPV6; // Windows writes the address that is none
  const gateway = isOnLink ? undefined : nextHop(hop, String(index));
  if (!isOnLink && gateway === undefined) return undefined;
  const metric = routeMetric + (typeof interfaceMetric === 'number' ? interfaceMetric : 0);
  return { destination, interface: name, gateway, metric };
}

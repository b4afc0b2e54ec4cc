/** MAC addresses of Ethernet and Wi-Fi adapters (IEEE 802, 48 bits) as text, checked once: `02:aa:bb:cc:dd:ee`. */

export type MacAddress = string;

/** The bits of the first octet that say what kind of address it is. */
const GROUP = 0x01;
const LOCAL = 0x02;

/** Lower case with colons, of an address written with colons or hyphens; undefined where `text` is none. */
export function parseMacAddress(text: string): MacAddress | undefined {
  const [, separator] = /^[0-9a-f]{2}([:-])/i.exec(text) ?? [];
  const octets = text.toLowerCase().split(separator ?? ':');
  const isOne = octets.length === 6 && octets.every((octet) => /^[0-9a-f]{2}$/.test(octet));
  return isOne ? octets.join(':') : undefined;
}

/** Made up by software or by an administrator: its prefix belongs to no vendor. */
export function isLocallyAdministered(address: MacAddress): boolean {
  return (firstOctet(address) & LOCAL) !== 0;
}

/** Why no adapter may have this address; undefined where one may. */
export function whyNotAnAdapters(address: MacAddress): string | undefined {
  if ((firstOctet(address) & GROUP) !== 0) return 'a multicast address (its first octet is odd)';
  return address === '00:00:00:00:00:00' ? 'no address at all' : undefined;
}

function firstOctet(address: MacAddress): number {
  return Number.parseInt(address.slice(0, 2), 16);
}

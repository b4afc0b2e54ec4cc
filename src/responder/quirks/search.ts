/** Quirks of how the gateway is found. */

import { family, type IpAddress, bracketed } from '../../net/address.ts';
import type { Hooks } from '../hooks.ts';
import type { Inside } from './inside.ts';
import type { SsdpHeaders } from './quirks.ts';

const WFA_DEVICE = 'urn:schemas-wifialliance-org:device:WFADevice:1';

export function answersAllWithWfaDeviceOnly(): Hooks {
  return {
    searchAnswers(answers, { search }) {
      const first = answers[0];
      if (search.searchTarget !== 'ssdp:all' || first === undefined) return answers;
      const usn = `uuid:00000000-0000-1000-8000-000000000001::${WFA_DEVICE}`;
      const location = new URL('/wps_device.xml', first.location).href;
      return [{ ...first, searchTarget: WFA_DEVICE, usn, location }];
    },
  };
}

export function answersMulticastOnly(): Hooks {
  return { searchAnswers: (answers, { way }) => (way === 'unicast' ? [] : answers) };
}

export function repliesFromAnotherPort(): Hooks {
  return { answersFromAnotherPort: true };
}

export function floatingAddress(address: IpAddress, { http }: Inside): Hooks {
  let also: { close(): Promise<void> } | undefined;
  return {
    async start() {
      also = await http.openAlso({ address, port: http.port });
    },
    async stop() {
      await also?.close();
    },
    location(url) {
      const floating = new URL(url);
      floating.hostname = bracketed(address);
      return floating.href;
    },
  };
}

/** Within this time the searches count as simultaneous; for so long the box is then deaf. */
const TOGETHER_MS = 1_000;
const DEAF_MS = 10_000;

/** The search that came first has its answer by then; the one in the other family and all after it do not. */
export function breaksOnBothFamilies({ site }: Inside): Hooks {
  const lastMs: Record<4 | 6, number> = { 4: Number.NEGATIVE_INFINITY, 6: Number.NEGATIVE_INFINITY };
  let deafUntilMs = 0;
  return {
    searchAnswers(answers, { address }) {
      const nowMs = site.clock.now();
      const own = family(address);
      lastMs[own] = nowMs;
      if (nowMs - lastMs[own === 4 ? 6 : 4] < TOGETHER_MS) deafUntilMs = nowMs + DEAF_MS;
      return nowMs < deafUntilMs ? [] : answers;
    },
  };
}

export function ssdpHeaders(how: SsdpHeaders): Hooks {
  const change: Readonly<Record<SsdpHeaders, (text: string) => string>> = {
    'no-last-line': (text) => text.replace(/\r\n$/, ''),
    'mixed-case': (text) =>
      text.replace(/^[A-Z0-9.-]+(?=:)/gm, (name) => name.toLowerCase().replace(/[acego]/g, upper)),
    'lf-only': (text) => text.replaceAll('\r\n', '\n'),
  };
  return { searchPacket: (packet) => Buffer.from(change[how](Buffer.from(packet).toString('utf8'))) };
}

function upper(letter: string): string {
  return letter.toUpperCase();
}

/** No gateway: how long until a client says so. */

import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ADDRESSES, type Lab } from '../test/lab/support/lab.ts';
import { type Timing, time } from './measure.ts';
import { clients } from './peers.ts';
import { atMost, median, medianOf, type Row, type Section } from './report.ts';

const LIMIT_MS = 15_000;
const PORT = 8080;
/** Linux answers one host with six ICMP errors, and then with one a second. */
const ICMP_REST_MS = 7_000;

export async function measureNone(
  lab: Lab,
  how: 'silence' | 'refusal',
  rounds: number,
  onRound: (round: number) => void,
): Promise<Section> {
  await lab.startGateway({ quiet: true });
  await lab.gateway.stop();
  if (how === 'silence') {
    for (const protocol of ['pcp', 'natpmp', 'ssdp', 'http'] as const) await lab.block({ protocol });
  }
  const timings = new Map<string, Timing[]>();
  let homes = 0;
  for (let round = 0; round < rounds; round++) {
    onRound(round);
    // Which home it is makes no difference where nothing was ever found.
    for (const client of clients(ADDRESSES.lan, ADDRESSES.gateway)) {
      if (client.home === 'warm' || client.name.startsWith('bare')) continue;
      if (how === 'refusal') await delay(ICMP_REST_MS);
      const directory = join(lab.directory, `none-${how}-${homes++}`);
      const timing = await time(lab, client.command(PORT), {
        limitMs: LIMIT_MS,
        env: { NATWARD_HOME: directory },
      });
      timings.set(client.name, [...(timings.get(client.name) ?? []), timing]);
    }
  }
  await lab.unblock();
  const rows = [...timings].map(([name, timings]): Row => {
    const killed = timings.filter(({ exitMs }) => exitMs === undefined).length;
    const said = timings.map(({ code, said }) => `exit ${code}: ${said}`).at(-1);
    return {
      name,
      samplesMs: timings.flatMap(({ exitMs }) => exitMs ?? []),
      remark: killed > 0 ? `no verdict after ${LIMIT_MS / 1000} s in ${killed} of ${timings.length}` : said,
    };
  });
  const limitMs = how === 'silence' ? 3000 : 1200;
  return {
    title: `No gateway, ${how === 'silence' ? 'and no word' : 'and ICMP says so'}: from the start to the verdict`,
    rows: rows.sort((a, b) => (median(a.samplesMs) ?? Infinity) - (median(b.samplesMs) ?? Infinity)),
    verdicts: [
      atMost(`natward's verdict within ${limitMs} ms`, medianOf(rows, 'natward (cold)'), limitMs, 'ms'),
    ],
  };
}

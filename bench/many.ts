/** A thousand ports in one command, beside a bare socket that sends the same requests one after the other. */

import { join } from 'node:path';
import { ADDRESSES, type Lab } from '../test/lab/support/lab.ts';
import { RuleWatch, type Timing, time } from './measure.ts';
import { driver, NATWARD } from './peers.ts';
import { atMost, median, medianOf, quotient, type Row, type Section } from './report.ts';

const FIRST = 20_000;
const COUNT = 1000;
const LIMIT_MS = 180_000;
const BARE = 'bare socket, one after the other';

export async function measureMany(
  lab: Lab,
  protocol: 'pcp' | 'natpmp',
  rounds: number,
  onRound: (round: number) => void,
): Promise<Section> {
  const commands = {
    natward: [process.execPath, NATWARD, 'map', `${FIRST}-${FIRST + COUNT - 1}`, '--via', protocol],
    [BARE]: driver('one-by-one', protocol, ADDRESSES.gateway, String(FIRST), String(COUNT)),
  };
  const timings = new Map<string, Timing[]>();
  for (let round = 0; round < rounds; round++) {
    onRound(round);
    const order = Object.entries(commands);
    if (round % 2 === 1) order.reverse();
    for (const [name, command] of order) {
      // Anew each time: it must not remember the ports, nor whose they were.
      await lab.startGateway({ quiet: true });
      const watch = await RuleWatch.start(lab);
      try {
        const timing = await time(lab, command, {
          limitMs: LIMIT_MS,
          rules: { watch, first: FIRST, count: COUNT },
          env: { NATWARD_HOME: join(lab.directory, `many-${protocol}-${round}`) },
        });
        timings.set(name, [...(timings.get(name) ?? []), timing]);
      } finally {
        watch.stop();
      }
    }
  }
  const rows = Object.keys(commands).map((name): Row => {
    const own = timings.get(name) ?? [];
    const failed = own.find(({ ruleMs }) => ruleMs === undefined);
    return {
      name,
      samplesMs: own.flatMap(({ ruleMs }) => ruleMs ?? []),
      more: { 'to its end': median(own.flatMap(({ exitMs }) => exitMs ?? [])) },
      remark: failed && `failed: exit ${failed.code}: ${failed.said}`,
    };
  });
  const verdict = atMost(
    'natward no slower than the bare socket',
    quotient(medianOf(rows, 'natward'), medianOf(rows, BARE)),
    1,
    'x',
  );
  // The gateway is the bottleneck of both: a few rounds cannot tell a hundredth from noise.
  const [own, bare] = rows.map(({ samplesMs }) => samplesMs);
  const overlap = Math.min(...(own ?? [])) <= Math.max(...(bare ?? []));
  return {
    title: `${COUNT} ports in one command over ${protocol === 'pcp' ? 'PCP' : 'NAT-PMP'}: from the start to the last rule`,
    floor: BARE,
    rows,
    verdicts: [
      verdict.met === false && overlap
        ? { ...verdict, measured: `${verdict.measured}, and the ranges overlap`, met: undefined }
        : verdict,
    ],
  };
}

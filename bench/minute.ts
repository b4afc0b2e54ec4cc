/**
 * Real minutes of a program that keeps ports: one in which there is nothing to do, and one in which every lease
 * is renewed. The program is the built one, in the lab, before miniupnpd or before the embedded gateway in a process
 * of its own; what is counted are its packets, by the gateway's kernel.
 */

import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ADDRESSES, type Lab } from '../test/lab/support/lab.ts';
import { driver, NATWARD } from './peers.ts';
import { LoopWatch, type Usage, usageOf } from './process.ts';

export type GatewayKind = 'embedded' | 'miniupnpd';
export type Program = 'natward agent' | '@silentbot1/nat-api';

export interface Minute {
  readonly program: Program;
  readonly gateway: GatewayKind;
  readonly leases: number;
  /** Until all were granted, and what that cost. */
  readonly grantSeconds: number;
  readonly grantCpuSeconds: number;
  readonly grantLoopP99Ms: number;
  /** At rest. */
  readonly rssMb: number;
  readonly peakRssMb: number;
  readonly restCpuPercent: number;
  readonly restRequests: number;
  readonly restLoopP99Ms: number;
  /** While all were renewed once; undefined where the program renews nothing in this time. */
  readonly renewing: Renewing | undefined;
}

interface Renewing {
  readonly renewals: number;
  readonly requestsPerRenewal: number;
  readonly cpuSeconds: number;
  readonly rssMb: number;
  readonly loopP99Ms: number;
}

const FIRST_PORT = 20_000;
/** miniupnpd walks its table at each request: a thousand take ten seconds. */
const GRANT_LIMIT_SECONDS = 180;
/** Renewed after 120 to 150 s (RFC 6887, section 11.2.1): when both minutes have room. */
const LIFETIME_SECONDS = 240;
const RENEWING_FROM_MS = 95_000;
const RENEWING_MS = 60_000;
const SETTLE_MS = 5000;
const READY_MS = 20_000;

export async function measureMinute(
  lab: Lab,
  program: Program,
  gateway: GatewayKind,
  leases: number,
  seconds: number,
): Promise<Minute> {
  const stopGateway = await startGateway(lab, gateway);
  try {
    await countPackets(lab);
    return program === 'natward agent'
      ? await measureNatward(lab, gateway, leases, seconds)
      : await measureNatApi(lab, gateway, leases, seconds);
  } finally {
    await stopGateway();
  }
}

async function startGateway(lab: Lab, kind: GatewayKind): Promise<() => Promise<unknown>> {
  if (kind === 'miniupnpd') {
    const gateway = await lab.startGateway({ quiet: true });
    return () => gateway.stop();
  }
  const script = fileURLToPath(new URL('embedded.ts', import.meta.url));
  const tsx = import.meta.resolve('tsx');
  const { gateway: address, outer } = ADDRESSES;
  const gateway = lab.spawn('gw', [process.execPath, '--import', tsx, script, address, outer]);
  await gateway.waitFor(/^ready$/m, READY_MS);
  return () => gateway.stop();
}

async function measureNatward(
  lab: Lab,
  gateway: GatewayKind,
  leases: number,
  seconds: number,
): Promise<Minute> {
  const home = join(lab.directory, `keeper-${homes++}`);
  const loop = new LoopWatch(`${home}.loop`);
  const env = { NATWARD_HOME: home, ...loop.env };
  const agent = lab.spawn('lan', [process.execPath, ...loop.nodeArgs, NATWARD, 'agent'], { env });
  try {
    await agent.waitFor(/listens on/, READY_MS);
    const startedMs = performance.now();
    const before = usageOf(agent.pid);
    const range = `${FIRST_PORT}-${FIRST_PORT + leases - 1}`;
    const limits = ['--lifetime', String(LIFETIME_SECONDS), '--timeout', `${GRANT_LIMIT_SECONDS}s`];
    const { code, stderr } = await lab.exec('lan', [process.execPath, NATWARD, 'keep', range, ...limits], {
      env,
      timeoutMs: (GRANT_LIMIT_SECONDS + 20) * 1000,
    });
    if (code !== 0) throw new Error(`natward keep ${range}: exit ${code}: ${stderr.slice(0, 300)}`);
    const granted = await grantedBy(agent.pid, loop, before, startedMs);
    const firstEndMs = Date.now() + LIFETIME_SECONDS * 1000;
    const rest = await atRest(lab, agent.pid, loop, seconds);
    await delay(Math.max(0, RENEWING_FROM_MS - (performance.now() - granted.atMs)));
    const usage = await whileRenewing(lab, agent.pid, loop);
    const renewals = await renewedBeyond(lab, env, firstEndMs);
    // What is asked at rest as well is no part of a renewal.
    const requests = Math.max(0, usage.requests - (rest.restRequests * RENEWING_MS) / (seconds * 1000));
    const renewing = {
      ...usage.figures,
      renewals,
      requestsPerRenewal: renewals === 0 ? 0 : requests / renewals,
    };
    return { program: 'natward agent', gateway, leases, ...granted.figures, ...rest, renewing };
  } finally {
    // It would give all of it back, one by one, which is not measured.
    await agent.stop('SIGKILL');
  }
}

let homes = 0;

async function measureNatApi(
  lab: Lab,
  gateway: GatewayKind,
  leases: number,
  seconds: number,
): Promise<Minute> {
  const loop = new LoopWatch(join(lab.directory, `nat-api-${homes++}.loop`));
  const ports = Array.from({ length: leases }, (_, at) => String(FIRST_PORT + at));
  const [node = '', ...script] = driver('keep-nat-api', ...ports);
  const startedMs = performance.now();
  const keeper = lab.spawn('lan', [node, ...loop.nodeArgs, ...script], { env: loop.env });
  try {
    await keeper.waitFor(/^mapped$/m, GRANT_LIMIT_SECONDS * 1000);
    const failed = keeper.stdout.split('\n').filter((line) => line.startsWith('failed')).length;
    if (failed > 0) throw new Error(`@silentbot1/nat-api mapped ${leases - failed} of ${leases}`);
    const nothing: Usage = { rssMb: 0, peakRssMb: 0, cpuSeconds: 0 };
    const granted = await grantedBy(keeper.pid, loop, nothing, startedMs);
    const rest = await atRest(lab, keeper.pid, loop, seconds);
    const figures = { ...granted.figures, ...rest, renewing: undefined };
    return { program: '@silentbot1/nat-api', gateway, leases, ...figures };
  } finally {
    await keeper.stop('SIGKILL');
  }
}

async function grantedBy(
  pid: number,
  loop: LoopWatch,
  before: Usage,
  startedMs: number,
): Promise<{
  readonly atMs: number;
  readonly figures: Pick<Minute, 'grantSeconds' | 'grantCpuSeconds' | 'grantLoopP99Ms'>;
}> {
  const atMs = performance.now();
  return {
    atMs,
    figures: {
      grantSeconds: (atMs - startedMs) / 1000,
      grantCpuSeconds: usageOf(pid).cpuSeconds - before.cpuSeconds,
      grantLoopP99Ms: (await loop.read(pid)).p99Ms,
    },
  };
}

/** A minute for the processor's time, without the histogram's timer, and a sixth of one for the histogram. */
async function atRest(
  lab: Lab,
  pid: number,
  loop: LoopWatch,
  seconds: number,
): Promise<Pick<Minute, 'rssMb' | 'peakRssMb' | 'restCpuPercent' | 'restRequests' | 'restLoopP99Ms'>> {
  await delay(SETTLE_MS);
  const [before, packets] = [usageOf(pid), await packetsOf(lab)];
  await delay(seconds * 1000);
  const after = usageOf(pid);
  const restRequests = (await packetsOf(lab)) - packets;
  loop.begin(pid);
  await delay((seconds * 1000) / 6);
  const { p99Ms } = await loop.read(pid);
  return {
    rssMb: after.rssMb,
    peakRssMb: after.peakRssMb,
    restCpuPercent: (100 * (after.cpuSeconds - before.cpuSeconds)) / seconds,
    restRequests,
    restLoopP99Ms: p99Ms,
  };
}

async function whileRenewing(
  lab: Lab,
  pid: number,
  loop: LoopWatch,
): Promise<{
  readonly requests: number;
  readonly figures: Pick<Renewing, 'cpuSeconds' | 'rssMb' | 'loopP99Ms'>;
}> {
  const [before, packets] = [usageOf(pid), await packetsOf(lab)];
  loop.begin(pid);
  await delay(RENEWING_MS);
  const { p99Ms: loopP99Ms } = await loop.read(pid);
  const { cpuSeconds, rssMb } = usageOf(pid);
  return {
    requests: (await packetsOf(lab)) - packets,
    figures: { cpuSeconds: cpuSeconds - before.cpuSeconds, rssMb, loopP99Ms },
  };
}

/** How many leases end later than any did when all were granted. Asked last: the answer is long, and costs memory. */
async function renewedBeyond(
  lab: Lab,
  env: Readonly<Record<string, string>>,
  firstEndMs: number,
): Promise<number> {
  const output = await lab.must('lan', [process.execPath, NATWARD, 'status', '--json'], { env });
  const { leases }: { leases: readonly { readonly expiresAt: string | null }[] } = JSON.parse(output);
  return leases.filter(({ expiresAt }) => expiresAt !== null && Date.parse(expiresAt) > firstEndMs).length;
}

const COUNTER_TABLE = `
table inet natward_bench
delete table inet natward_bench
table inet natward_bench {
  counter requests { }
  chain input {
    type filter hook input priority -20;
    iifname "int0" udp dport { 5351, 1900 } counter name requests
    iifname "int0" tcp flags & (syn | ack) == syn counter name requests
  }
}
`;

/** Datagrams to the gateway's ports, and connections to it: each is one request. */
async function countPackets(lab: Lab): Promise<void> {
  await lab.must('gw', ['nft', '-f', '-'], { input: COUNTER_TABLE });
}

async function packetsOf(lab: Lab): Promise<number> {
  const listing = await lab.must('gw', ['nft', 'list', 'counter', 'inet', 'natward_bench', 'requests']);
  return Number(/packets (\d+)/.exec(listing)?.[1]);
}

import { describe, expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../../src/agent/config.ts';
import { EventLog } from '../../src/agent/events.ts';
import { type GatewayStatus, type Intent, type LeaseStatus, RESPONDER_OWNER } from '../../src/agent/lease.ts';
import { defaultSection, type RespondSection } from '../../src/agent/respond-config.ts';
import { Responding } from '../../src/agent/responding.ts';
import type { ResponderStatus } from '../../src/agent/responder-status.ts';
import { parseSpec } from '../../src/agent/spec.ts';
import { NatwardError } from '../../src/errors.ts';
import { family, type IpAddress } from '../../src/net/address.ts';
import type { ResponderOptions } from '../../src/responder/responder.ts';
import type { InterfaceAddress, NetworkState } from '../../src/system/routes.ts';
import { TestUpstream } from '../responder/test-upstream.ts';
import { sampleLease } from '../support/sample-lease.ts';
import { TestClock } from '../support/test-clock.ts';

const OUTER: GatewayStatus = {
  address: '192.168.1.1',
  family: 4,
  interface: 'eth0',
  localAddress: '192.168.1.10',
  state: 'up',
  protocols: ['pcp'],
  externalAddress: '198.51.100.7',
};

function addressOf(name: string, cidr: string): InterfaceAddress {
  const [address = '', bits] = cidr.split('/');
  return { interface: name, address, family: family(address), prefixLength: Number(bits), internal: false };
}

const ETH0 = addressOf('eth0', '192.168.1.10/24');
const DOCKER0 = addressOf('docker0', '172.17.0.1/16');
const VIRBR0 = addressOf('virbr0', '192.168.122.1/24');
const ROUTE = { family: 4, interface: 'eth0', gateway: '192.168.1.1', metric: 100 } as const;

function lease(change: Partial<LeaseStatus>): LeaseStatus {
  return sampleLease({ owner: RESPONDER_OWNER, spec: '443:172.17.0.2:8443/tcp', ...change });
}

interface Scene {
  readonly clock: TestClock;
  readonly responding: Responding;
  network: NetworkState;
  gateways: readonly GatewayStatus[];
  /** Rejects the next starts. */
  refusal: NatwardError | undefined;
  readonly log: EventLog;
  /** What was started and closed, in order: `+docker0 172.17.0.1`, `-docker0`. */
  readonly done: string[];
  /** The same, and what the fence was told: `fence docker0 172.17.0.1 5351`. */
  readonly steps: string[];
  readonly started: ResponderOptions[];
  /** What does not go well, by its key. */
  readonly warnings: Map<string, string>;
  /** How often that was told. */
  readonly told: string[];
  /** What is remembered, and which of that is dropped. */
  intents: readonly Intent[];
  readonly dropped: string[];
  configure(...sections: readonly RespondSection[]): Promise<void>;
  pass(ms: number): Promise<void>;
}

function sceneOf(start: Partial<Pick<Scene, 'network' | 'gateways' | 'intents'>> = {}): Scene {
  const clock = new TestClock();
  const log = new EventLog(() => clock.now());
  const done: string[] = [];
  const steps: string[] = [];
  const started: ResponderOptions[] = [];
  const warnings = new Map<string, string>();
  const told: string[] = [];
  const dropped: string[] = [];
  const responding = new Responding({
    system: { clock, networkLookMs: 1000, network: async () => scene.network },
    keeper: {
      log,
      get intents() {
        return scene.intents;
      },
      async drop(selectors) {
        dropped.push(...selectors.map(({ text }) => text));
        return { released: [], failures: [] };
      },
      status: async () => ({ gateways: scene.gateways, leases: [], warnings: [], lastEventId: 0 }),
      warn(key, error) {
        if (error === undefined) warnings.delete(key);
        else {
          warnings.set(key, error.message);
          told.push(error.message);
        }
      },
    },
    async start(options) {
      if (scene.refusal !== undefined) throw scene.refusal;
      started.push(options);
      const addresses = options.networks.map(({ address }) => address);
      const did = (what: string) => {
        done.push(what);
        steps.push(what);
      };
      did(`+${options.interface} ${addresses.join(' ')}`);
      const close = async () => did(`-${options.interface}`);
      return {
        interface: options.interface,
        addresses,
        counters: {},
        close,
        [Symbol.asyncDispose]: close,
      };
    },
    async fence(places) {
      const around = places.map((one) => [one.interface, ...one.addresses, ...one.ports].join(' '));
      steps.push(`fence ${around.join(', ') || 'none'}`);
    },
    upstream: () => new TestUpstream(),
    hostName: 'nas',
    identity: 'nas /var/lib/natward',
  });
  onTestFinished(() => responding.close());
  const scene: Scene = {
    clock,
    responding,
    network: { defaultRoutes: [ROUTE], addresses: [ETH0, DOCKER0, VIRBR0] },
    gateways: [OUTER],
    refusal: undefined,
    log,
    done,
    steps,
    started,
    warnings,
    told,
    intents: [],
    dropped,
    async configure(...sections) {
      responding.configure(sections, 1024);
      await clock.advance(0);
    },
    pass: (ms) => clock.advance(ms),
    ...start,
  };
  return scene;
}

const docker0 = defaultSection('docker0');

function sectionOf(...lines: string[]): RespondSection {
  const text = ['[[respond]]', 'interface = "docker0"', ...lines].join('\n');
  return parseConfig(text, 'f').responds[0] as RespondSection;
}

describe('a responder', () => {
  test('starts where its interface has an address, with what its section says', async () => {
    const scene = sceneOf();
    await scene.configure(sectionOf('protocols = ["pcp"]', 'igdVersion = 1', 'name = "the nas"'));
    expect(scene.started).toMatchObject([
      {
        interface: 'docker0',
        networks: [{ address: '172.17.0.1', prefixLength: 16 }],
        protocols: ['pcp'],
        igdVersion: 1,
        friendlyName: 'the nas',
      },
    ]);
    expect(scene.warnings.size).toBe(0);
  });

  test('goes by the name of its host where nothing is said, and by one UUID in each of its lives', async () => {
    const [one, two] = [sceneOf(), sceneOf()];
    await one.configure(docker0, defaultSection('virbr0'));
    await two.configure(docker0);
    expect(one.started[0]?.friendlyName).toBe('natward on nas');
    expect(one.started[0]?.uuid).toMatch(/^[\da-f]{8}-[\da-f]{4}-8[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
    expect(two.started[0]?.uuid).toBe(one.started[0]?.uuid);
    expect(one.started[1]?.uuid).not.toBe(one.started[0]?.uuid);
  });

  test('waits for its interface, and goes with it', async () => {
    const scene = sceneOf();
    scene.network = { ...scene.network, addresses: [ETH0] };
    await scene.configure(docker0);
    expect(scene.warnings.get('respond docker0')).toMatch(/docker0.* is not there or has no address/);
    scene.network = { ...scene.network, addresses: [ETH0, DOCKER0] };
    await scene.pass(1000);
    expect(scene.warnings.size).toBe(0);
    scene.network = { ...scene.network, addresses: [ETH0] };
    await scene.pass(1000);
    expect(scene.done).toEqual(['+docker0 172.17.0.1', '-docker0']);
    expect(scene.told).toHaveLength(2);
  });

  test('begins again where its addresses change, and not where others do', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    scene.network = { ...scene.network, addresses: [addressOf('eth0', '192.168.1.11/24'), DOCKER0] };
    await scene.pass(5000);
    expect(scene.done).toEqual(['+docker0 172.17.0.1']);
    scene.network = { ...scene.network, addresses: [ETH0, addressOf('docker0', '172.18.0.1/16')] };
    await scene.pass(1000);
    expect(scene.done).toEqual(['+docker0 172.17.0.1', '-docker0', '+docker0 172.18.0.1']);
  });

  test('knows all addresses of this host, so that it is never its own client', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    const { isOwn } = scene.started[0] as ResponderOptions;
    expect(['172.17.0.1', '192.168.1.10', '192.168.122.1', '172.17.0.2'].map(isOwn)).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });

  test('ends with the agent', async () => {
    const scene = sceneOf();
    await scene.configure(docker0, defaultSection('virbr0'));
    await scene.responding.close();
    expect(scene.done.slice(2).sort()).toEqual(['-docker0', '-virbr0']);
    expect(scene.clock.pending).toBe(0);
  });
});

describe('the way to the outer gateway', () => {
  test('is not answered on; the other interfaces are', async () => {
    const scene = sceneOf();
    await scene.configure(defaultSection('eth0'), docker0);
    expect(scene.done).toEqual(['+docker0 172.17.0.1']);
    expect(scene.warnings.get('respond eth0')).toMatch(/eth0 leads to the outer gateway 192\.168\.1\.1/);
  });

  test('is said once, and answered on when it is the way out no more', async () => {
    const scene = sceneOf({ gateways: [] });
    await scene.configure(defaultSection('eth0'));
    await scene.pass(10_000);
    expect(scene.told).toHaveLength(1);
    scene.network = { ...scene.network, defaultRoutes: [] };
    await scene.pass(1000);
    expect(scene.done).toEqual(['+eth0 192.168.1.10']);
    scene.network = { ...scene.network, defaultRoutes: [ROUTE] };
    await scene.pass(1000);
    expect(scene.done).toEqual(['+eth0 192.168.1.10', '-eth0']);
  });

  test('a route without a next hop is one', async () => {
    const wg0 = { ...ROUTE, interface: 'docker0', gateway: undefined };
    const scene = sceneOf();
    scene.network = { ...scene.network, defaultRoutes: [ROUTE, wg0] };
    await scene.configure(docker0);
    expect(scene.done).toEqual([]);
    expect(scene.warnings.get('respond docker0')).toContain('leads to the outer gateway');
  });

  test('another interface in the network of the gateway is one as well', async () => {
    const scene = sceneOf();
    const wlan0 = addressOf('wlan0', '192.168.1.20/24');
    scene.network = { ...scene.network, addresses: [ETH0, wlan0] };
    await scene.configure(defaultSection('wlan0'));
    expect(scene.done).toEqual([]);
  });

  test('a link-local gateway is of its own interface alone', async () => {
    const addresses = [
      addressOf('eth0', '2001:db8::2/64'),
      addressOf('docker0', 'fe80::1%docker0/64'),
      DOCKER0,
    ];
    const route = { family: 6, interface: 'eth0', gateway: 'fe80::9%eth0', metric: 1 } as const;
    const scene = sceneOf({ gateways: [], network: { defaultRoutes: [route], addresses } });
    await scene.configure(docker0);
    expect(scene.done).toHaveLength(1);
  });

  test('a gateway that the keeper finds ends the answers there within a second', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    await scene.pass(5000);
    const gateway = { ...OUTER, interface: 'docker0', address: '172.17.0.9' };
    scene.gateways = [OUTER, gateway];
    scene.log.emit({ type: 'gateway-up', gateway });
    await scene.pass(1000);
    expect(scene.done).toEqual(['+docker0 172.17.0.1', '-docker0']);
  });
});

describe('the fence', () => {
  const FENCE = 'fence docker0 172.17.0.1 5351 1900';

  test('stands before anybody is answered, as long as anybody is, and is gone after the last one', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    const virbr0 = defaultSection('virbr0');
    await scene.configure(docker0, virbr0);
    await scene.configure(virbr0);
    await scene.responding.close();
    expect(scene.steps).toEqual([
      FENCE,
      '+docker0 172.17.0.1',
      `${FENCE}, virbr0 192.168.122.1 5351 1900`,
      '+virbr0 192.168.122.1',
      '-docker0',
      'fence virbr0 192.168.122.1 5351 1900',
      '-virbr0',
      'fence none',
    ]);
  });

  test('is about the ports that are open', async () => {
    const scene = sceneOf();
    await scene.configure(sectionOf('protocols = ["natpmp"]'));
    await scene.configure(sectionOf('protocols = ["upnp"]'));
    expect(scene.steps.filter((step) => step.startsWith('fence'))).toEqual([
      'fence docker0 172.17.0.1 5351',
      'fence docker0 172.17.0.1 1900',
    ]);
  });

  test('goes with the interface, after whoever answers there, and comes back with its address', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    scene.network = { ...scene.network, addresses: [ETH0] };
    await scene.pass(1000);
    scene.network = { ...scene.network, addresses: [ETH0, addressOf('docker0', '172.18.0.1/16')] };
    await scene.pass(1000);
    expect(scene.steps.slice(2)).toEqual([
      '-docker0',
      'fence none',
      'fence docker0 172.18.0.1 5351 1900',
      '+docker0 172.18.0.1',
    ]);
  });

  test('stays while a responder is tried in vain', async () => {
    const scene = sceneOf();
    scene.refusal = new NatwardError('FAILED', 'bind EADDRINUSE');
    await scene.configure(docker0);
    await scene.pass(20_000);
    expect(scene.steps).toEqual([FENCE]);
  });

  test('is told again every half minute, for somebody may have flushed all tables', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    await scene.pass(65_000);
    expect(scene.steps.filter((step) => step === FENCE)).toHaveLength(3);
  });

  test('of an agent that was killed goes where nobody is answered any more', async () => {
    const asked = { ...parseSpec('443:172.17.0.2:8443'), lifetimeSeconds: 7200, choice: 'any', hooks: [] };
    const client = { ...asked, id: '11111111', owner: RESPONDER_OWNER } as const;
    const scene = sceneOf({ intents: [client as Intent] });
    await scene.configure();
    expect(scene.steps).toEqual(['fence none']);
    const other = sceneOf();
    await other.configure();
    await other.responding.close();
    expect(other.steps).toEqual([]);
  });
});

describe('what cannot be started', () => {
  function failed(message: string, code?: string): NatwardError {
    const cause = code === undefined ? undefined : Object.assign(new Error(message), { code });
    return new NatwardError('FAILED', message, { cause });
  }

  test('is said once, tried again every five seconds, and said no more when it works', async () => {
    const scene = sceneOf();
    scene.refusal = failed('bind EADDRINUSE 172.17.0.1:5351', 'EADDRINUSE');
    await scene.configure(docker0);
    await scene.pass(12_000);
    expect(scene.told).toEqual(['bind EADDRINUSE 172.17.0.1:5351']);
    scene.refusal = undefined;
    await scene.pass(2000);
    expect(scene.done).toEqual([]);
    await scene.pass(3000);
    expect(scene.done).toEqual(['+docker0 172.17.0.1']);
    expect(scene.warnings.size).toBe(0);
  });

  test('an address that is not settled yet is no warning for the first five seconds', async () => {
    const scene = sceneOf();
    scene.refusal = failed('bind EADDRNOTAVAIL fe80::1', 'EADDRNOTAVAIL');
    await scene.configure(docker0);
    await scene.pass(4000);
    expect(scene.told).toEqual([]);
    await scene.pass(2000);
    expect(scene.told).toHaveLength(1);
  });

  test('is tried at once where the addresses are others', async () => {
    const scene = sceneOf();
    scene.refusal = failed('bind EADDRINUSE');
    await scene.configure(docker0);
    scene.refusal = undefined;
    scene.network = { ...scene.network, addresses: [ETH0, addressOf('docker0', '172.18.0.1/16')] };
    await scene.pass(1000);
    expect(scene.done).toEqual(['+docker0 172.18.0.1']);
  });
});

describe('another configuration', () => {
  test('gives other rights without a new start', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    const rightsOf = scene.started[0]?.rightsOf;
    expect(rightsOf?.('172.17.0.2')?.maxMappings).toBe(32);
    await scene.configure(sectionOf('maxMappings = 2', 'clients = "172.17.0.2"'));
    expect(rightsOf?.('172.17.0.2')?.maxMappings).toBe(2);
    expect(rightsOf?.('172.17.0.3')).toBeUndefined();
    await scene.pass(5000);
    expect(scene.done).toEqual(['+docker0 172.17.0.1']);
  });

  test('starts anew what speaks otherwise', async () => {
    const scene = sceneOf();
    await scene.configure(docker0);
    await scene.configure(sectionOf('protocols = ["upnp"]'));
    expect(scene.done).toEqual(['+docker0 172.17.0.1', '-docker0', '+docker0 172.17.0.1']);
    expect(scene.started[1]?.protocols).toEqual(['upnp']);
  });

  test('adds and takes away interfaces, and their warnings', async () => {
    const scene = sceneOf();
    await scene.configure(docker0, defaultSection('docker9'));
    await scene.configure(defaultSection('virbr0'));
    expect(scene.done).toEqual(['+docker0 172.17.0.1', '-docker0', '+virbr0 192.168.122.1']);
    expect(scene.warnings.size).toBe(0);
    await scene.configure();
    expect(scene.done.at(-1)).toBe('-virbr0');
  });

  test('ends what clients were given before, where nobody is to be answered from the start', async () => {
    const asked = {
      ...parseSpec('443:172.17.0.2:8443'),
      lifetimeSeconds: 7200,
      choice: 'any',
      hooks: [],
    } as const;
    const intents = [
      { ...asked, id: '11111111', owner: RESPONDER_OWNER },
      { ...asked, id: '22222222', owner: 'user' },
    ];
    const scene = sceneOf({ intents });
    await scene.configure();
    expect(scene.dropped).toEqual(['11111111']);
    const other = sceneOf({ intents });
    await other.configure(docker0);
    await other.configure();
    expect(other.dropped).toEqual([]);
  });

  test('nothing is looked at where there is none', async () => {
    const scene = sceneOf();
    let looks = 0;
    const { network } = scene;
    Object.defineProperty(scene, 'network', {
      get() {
        looks++;
        return network;
      },
    });
    await scene.configure();
    await scene.pass(5000);
    expect(looks).toBe(0);
  });
});

describe('statuses()', () => {
  test('mappings and clients are those of the interface’s networks', async () => {
    const scene = sceneOf();
    await scene.configure(docker0, defaultSection('virbr0'));
    const to = (address: IpAddress) => lease({ target: { address, port: 8443 } });
    const statuses = scene.responding.statuses([
      to('172.17.0.2'),
      to('172.17.0.2'),
      to('172.17.0.3'),
      to('192.168.122.5'),
      lease({ owner: 'user', target: { address: '172.17.0.4', port: 1 } }),
      lease({ state: 'asking', internalClient: null }),
    ]);
    expect(statuses).toEqual<ResponderStatus[]>([
      {
        interface: 'docker0',
        addresses: ['172.17.0.1'],
        protocols: ['pcp', 'natpmp', 'upnp'],
        clients: 2,
        mappings: 3,
      },
      {
        interface: 'virbr0',
        addresses: ['192.168.122.1'],
        protocols: ['pcp', 'natpmp', 'upnp'],
        clients: 1,
        mappings: 1,
      },
    ]);
  });

  test('a pinhole leads to its client without a rule', async () => {
    const scene = sceneOf();
    scene.network = { ...scene.network, addresses: [ETH0, addressOf('docker0', '2001:db8::1/64')] };
    await scene.configure(docker0);
    const pinhole = lease({ family: 6, internalClient: '2001:db8::2' });
    expect(scene.responding.statuses([pinhole])).toMatchObject([{ clients: 1, mappings: 1 }]);
  });

  test('what does not run is not told', async () => {
    const scene = sceneOf();
    await scene.configure(defaultSection('eth0'));
    expect(scene.responding.statuses([])).toEqual([]);
  });
});

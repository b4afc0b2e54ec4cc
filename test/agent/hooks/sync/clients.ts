/**
 * BitTorrent clients as far as a sync sees them, for the answers that real ones (test/lab/sync.test.ts) do not
 * give on demand. Each says what it was told; `faults` are answers that come first, one a request.
 */

import { type Answer, type Asked, serviceFor, type TestService } from '../../../support/services.ts';

export const USER = 'me';
export const PASSWORD = 'p@ss:word';

export interface TestClient extends TestService {
  /** What it listens on. */
  port: number;
  /** It says yes, and does nothing. */
  isStubborn: boolean;
  readonly faults: Answer[];
  /** The same, as long as it answers something. */
  fault: (asked: Asked) => Answer | undefined;
  /** The methods it was asked, in their order. */
  readonly methods: string[];
}

type Reply = (client: TestClient, asked: Asked) => Answer;

async function clientFor(reply: Reply): Promise<TestClient> {
  const state = {
    port: 6881,
    isStubborn: false,
    faults: [] as Answer[],
    fault: (_asked: Asked): Answer | undefined => undefined,
    methods: [] as string[],
  };
  const client: { now?: TestClient } = {};
  const service = await serviceFor((asked) => {
    const fault = state.faults.shift() ?? state.fault(asked);
    return fault ?? reply(client.now as TestClient, asked);
  });
  client.now = Object.assign(state, service);
  return client.now;
}

function json(value: unknown, headers: Answer['headers'] = {}): Answer {
  return { headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(value) };
}

function isIn({ headers }: Asked, cookie: string): boolean {
  return headers.cookie?.split('; ').includes(cookie) === true;
}

/** `trustsHost`: as with "Bypass authentication for clients on localhost". */
export function qbittorrentFor({
  version = 4,
  trustsHost = false,
}: {
  readonly version?: number;
  readonly trustsHost?: boolean;
} = {}): Promise<TestClient> {
  const cookie = version >= 5.2 ? 'QBT_SID_8080=a/b+c' : 'SID=a/b+c';
  return clientFor((client, asked) => {
    const method = asked.path.replace(/^.*\/api\/v2\//, '');
    client.methods.push(method);
    const own = `http://${asked.headers.host}`;
    if (asked.headers.origin !== own || asked.headers.referer?.startsWith(own) !== true)
      return { status: 401 };
    const fields = new URLSearchParams(asked.body);
    if (method === 'auth/login') {
      const isRight = fields.get('username') === USER && fields.get('password') === PASSWORD;
      const headers = { 'Set-Cookie': `${cookie}; HttpOnly; path=/; SameSite=Strict` };
      if (version >= 5.2) return isRight ? { status: 204, headers } : { status: 401 };
      return isRight ? { body: 'Ok.', headers } : { body: 'Fails.' };
    }
    if (!trustsHost && !isIn(asked, cookie)) return { status: 403, body: 'Forbidden' };
    if (method === 'app/preferences') return json({ listen_port: client.port, upnp: true });
    const wanted = JSON.parse(fields.get('json') ?? '{}');
    if (!client.isStubborn) client.port = wanted.listen_port;
    return { headers: { 'X-Wanted': Object.keys(wanted).join() } };
  });
}

export interface TransmissionClient extends TestClient {
  udpPort: number;
  hasDht: boolean;
}

/** Of rpc-version 16 (3.00) the UDP port moves only when DHT is switched. */
export async function transmissionFor({
  rpcVersion = 17,
}: {
  readonly rpcVersion?: number;
} = {}): Promise<TransmissionClient> {
  let session = 'first';
  const base = await clientFor((client, asked) => {
    const pair = Buffer.from(`${USER}:${PASSWORD}`).toString('base64');
    if (asked.headers.authorization !== `Basic ${pair}`) return { status: 401 };
    if (asked.headers['x-transmission-session-id'] !== session) {
      client.methods.push('409');
      return { status: 409, headers: { 'X-Transmission-Session-Id': session } };
    }
    const { method, arguments: wanted } = JSON.parse(asked.body);
    client.methods.push(method);
    if (method === 'session-get') {
      const now = { 'peer-port': client.port, 'rpc-version': rpcVersion, 'dht-enabled': own.hasDht };
      return json({ result: 'success', arguments: now });
    }
    if (wanted['peer-port'] > 65_000) return json({ result: 'no such port', arguments: {} });
    if (!client.isStubborn) client.port = wanted['peer-port'] ?? client.port;
    const isSwitched = own.hasDht !== (wanted['dht-enabled'] ?? own.hasDht);
    own.hasDht = wanted['dht-enabled'] ?? own.hasDht;
    if (rpcVersion >= 17 || isSwitched) own.udpPort = client.port;
    // It expires whenever it likes.
    session = 'second';
    return json({ result: 'success', arguments: {} });
  });
  const own: TransmissionClient = Object.assign(base, { udpPort: base.port, hasDht: true });
  return own;
}

export interface DelugeOptions {
  readonly hosts?: readonly (readonly unknown[])[];
  /** Whether a connection to a daemon comes about. */
  readonly canConnect?: boolean;
  readonly isConnected?: boolean;
}

export function delugeFor(options: DelugeOptions = {}): Promise<TestClient & { connectedTo?: unknown }> {
  const { hosts = [['id-1', '127.0.0.1', 58_846, 'localclient']], canConnect = true } = options;
  let isConnected = options.isConnected ?? false;
  let isRandom = true;
  const answer = (client: TestClient & { connectedTo?: unknown }, method: string, params: unknown[]) => {
    switch (method) {
      case 'web.connected':
        return { result: isConnected };
      case 'web.get_hosts':
        return { result: hosts };
      case 'web.connect':
        client.connectedTo = params[0];
        isConnected = canConnect;
        return { result: ['core.set_config'] };
      case 'core.get_config_values':
        return { result: { listen_ports: [client.port, client.port], random_port: isRandom } };
      case 'core.set_config': {
        const wanted = params[0] as { listen_ports: number[]; random_port: boolean };
        if (!isConnected) return { error: { message: 'Unknown method', code: 2 } };
        if (!client.isStubborn) [client.port, isRandom] = [wanted.listen_ports[0] ?? 0, wanted.random_port];
        return { result: null };
      }
      default:
        return { error: { message: 'Unknown method', code: 2 } };
    }
  };
  return clientFor((client, asked) => {
    if (asked.headers['content-type'] !== 'application/json') return { status: 400 };
    const { id, method, params } = JSON.parse(asked.body);
    client.methods.push(method);
    if (method === 'auth.login') {
      const isRight = params[0] === PASSWORD;
      const headers = isRight ? { 'Set-Cookie': '_session_id=abc123; Path=/json' } : {};
      return json({ id, error: null, result: isRight }, headers);
    }
    if (!isIn(asked, '_session_id=abc123')) {
      return json({ id, result: null, error: { message: 'Not authenticated', code: 1 } });
    }
    return json({ id, result: null, error: null, ...answer(client, method, params) });
  });
}

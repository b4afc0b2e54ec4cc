/**
 * Deluge's port, by the JSON-RPC of its web interface (deluge-web, /json). The web interface is a client of the
 * daemon and may have to be connected to it first. It knows a password and no users.
 */

import * as v from 'valibot';
import { NatwardError } from '../../../errors.ts';
import { bare, below, checkStatus, readJson, readValue, type Service } from '../service.ts';

const answerSchema = v.object({
  result: v.unknown(),
  error: v.nullish(v.object({ message: v.string(), code: v.optional(v.number()) })),
});
const UNAUTHENTICATED = 1;

/** Id, host, port, and more that differs with the version. */
const hostsSchema = v.array(v.tupleWithRest([v.string(), v.string(), v.number()], v.unknown()));
const configSchema = v.object({ listen_ports: v.tuple([v.number(), v.number()]), random_port: v.boolean() });

type Call = (method: string, ...params: readonly unknown[]) => Promise<unknown>;

/** Throws where the port does not hold afterwards. */
export async function setDelugePort(service: Service, url: string, port: number): Promise<void> {
  const call = caller(service, url);
  const isIn = await call('auth.login', decodeURIComponent(new URL(url).password));
  if (isIn !== true) {
    throw new NatwardError('NOT_AUTHORIZED', 'it does not know this password', {
      advice: 'Put the password of its web page into the URL: deluge=http://:PASSWORD@127.0.0.1:8112',
    });
  }
  if ((await call('web.connected')) !== true) await connect(call);
  await call('core.set_config', { listen_ports: [port, port], random_port: false });
  const config = readValue(
    configSchema,
    await call('core.get_config_values', ['listen_ports', 'random_port']),
  );
  const { listen_ports: actual, random_port: isRandom } = config;
  if (isRandom || actual[0] !== port || actual[1] !== port) {
    throw new NatwardError(
      'REFUSED',
      `it stays at ${isRandom ? 'a random port' : `ports ${actual.join('-')}`}`,
    );
  }
}

function caller(service: Service, url: string): Call {
  const endpoint = endpointOf(url);
  let id = 0;
  return async (method, ...params) => {
    const response = await service.ask({
      method: 'POST',
      url: endpoint,
      // To the letter: with a charset behind it, it is refused.
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ id: ++id, method, params }),
    });
    checkStatus(response);
    const { result, error } = readJson(answerSchema, response.body);
    if (error == null) return result;
    const code = error.code === UNAUTHENTICATED ? 'NOT_AUTHORIZED' : 'UNREACHABLE';
    throw new NatwardError(code, `${method}: ${error.message.slice(0, 100)}`);
  };
}

/** To the daemon on the same machine, or to the only one that it knows. */
async function connect(call: Call): Promise<void> {
  const hosts = readValue(hostsSchema, await call('web.get_hosts'));
  const host = hosts.find(([, name]) => isHere(name)) ?? (hosts.length === 1 ? hosts[0] : undefined);
  if (host === undefined) {
    throw new NatwardError(
      'NOT_FOUND',
      `of the ${hosts.length} daemons that it knows none is on its machine`,
      {
        advice: 'Connect its web page to the daemon that is meant.',
      },
    );
  }
  await call('web.connect', host[0]);
  if ((await call('web.connected')) !== true) {
    throw new NatwardError('UNREACHABLE', `its daemon at ${host[1]}:${host[2]} does not answer`);
  }
}

function isHere(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function endpointOf(url: string): string {
  const site = bare(url);
  return site.pathname.endsWith('/json') ? site.href : below(site, 'json');
}

/**
 * natward's library inside a process: its first call, and later calls by turns with a bare request for the
 * same. One argument in JSON: `library` and `home` (paths), `gateway` (address), `descriptionUrl` (where the
 * bare request is to be UPnP's), `firstPort` and `count` of later calls. Prints one line of JSON.
 */

import { networkInterfaces } from 'node:os';
import { addPortMapping, checkAnswer, controlOf, NATPMP_ADDRESS, openBare, pcpMap } from './bare.mjs';

const { library, home, gateway, descriptionUrl, firstPort, count } = JSON.parse(process.argv[2]);
const own = Object.values(networkInterfaces())
  .flat()
  .find(({ family, internal }) => family === 'IPv4' && !internal);
let port = firstPort;

const [loadMs, { Agent, realSystem }] = await timed(() => import(library));
const agent = new Agent(realSystem, home);
const [firstMs, { via }] = await timed(map);

// Not before natward's first call: what both need would be loaded then.
const bare = await bareMap();
const laterMs = [];
const bareMs = [];
for (let turn = 0; turn < count; turn++) {
  laterMs.push((await timed(map))[0]);
  bareMs.push((await timed(bare.map))[0]);
}
console.log(JSON.stringify({ loadMs, firstMs, laterMs, bareMs, echoMs: await bare.echo(), via }));
process.exit(0);

async function map() {
  const range = { first: port, last: port };
  const ask = { spec: `${port}`, protocols: ['tcp'], external: range, internal: range, host: undefined };
  port++;
  const { mappings, failures } = await agent.map([ask], {
    lifetimeSeconds: 7200,
    choice: 'any',
    description: undefined,
    timeoutMs: 5000,
    signal: new AbortController().signal,
    onWarning: (warning) => console.error(warning.message),
  });
  if (failures.length > 0) throw failures[0].error;
  return mappings[0];
}

async function bareMap() {
  if (descriptionUrl !== undefined) {
    const control = await controlOf(descriptionUrl);
    return { map: () => addPortMapping(control, own.address, port++), echo: async () => [] };
  }
  const conversation = await openBare(gateway);
  return {
    map: async () => checkAnswer(await conversation.ask(pcpMap(own.address, port++))),
    async echo() {
      const times = [];
      for (let turn = 0; turn < count; turn++) {
        times.push((await timed(() => conversation.ask(NATPMP_ADDRESS)))[0]);
      }
      return times;
    },
  };
}

async function timed(act) {
  const startedMs = performance.now();
  const value = await act();
  return [performance.now() - startedMs, value];
}

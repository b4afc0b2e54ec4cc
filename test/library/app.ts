/** An app in a process of its own, before a gateway that its test runs: `app.ts WHAT PORTS ADDRESS`. */

import { argv } from 'node:process';
import { Agent, type AgentOptions, connect, realSystem } from '../../src/index.ts';

const [, , what, ports = '{}', address = '127.0.0.1', directory] = argv;
const options: AgentOptions = {
  ports: JSON.parse(ports),
  ...(directory === undefined ? {} : { directory }),
  system: {
    ...realSystem,
    network: async () => ({
      defaultRoutes: [{ family: 4, interface: 'lo', gateway: address, metric: 0 }],
      addresses: [{ interface: 'lo', address, family: 4, prefixLength: 8, internal: true }],
    }),
  },
};
const agent = what === 'hands over and is done' ? await connect(options) : new Agent(options);

const say = (text: string) => console.log(text);

switch (what) {
  case 'hands over and is done':
  case 'keeps and is done': {
    const { externalPort } = await agent.keep({ internalPort: 6881 });
    say(`kept ${externalPort}`);
    break;
  }
  case 'only waits':
    // Nothing else keeps this process alive.
    void agent.keep({ internalPort: 6881 }).then(
      ({ externalPort }) => say(`kept ${externalPort}`),
      (error: Error) => say(error.message),
    );
    break;
  case 'gives back': {
    await using lease = await agent.keep({ internalPort: 6881 });
    say(`kept ${lease.externalPort}`);
    break;
  }
  case 'maps': {
    const { externalPort } = await agent.map({ internalPort: 6881 });
    say(`mapped ${externalPort}`);
    for await (const gateway of agent.gateways()) say(`found ${gateway.protocols.join(' ')}`);
    break;
  }
  case 'has a listener that throws': {
    process.once('uncaughtException', (error) => say(`uncaught: ${error.message}`));
    const lease = await agent.keep({ internalPort: 6881 });
    lease.on('released', () => {
      throw new Error('of the app');
    });
    lease.on('released', () => say('told as well'));
    await lease.release();
    say(`then ${lease.state}`);
    break;
  }
  default:
    throw new Error(`it does not know what to do: ${what}`);
}
say('main is over');

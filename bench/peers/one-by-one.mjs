/** Arguments: pcp or natpmp, the gateway, the first port, how many. Each request after the answer before it. */

import { checkAnswer, natpmpMap, openBare, pcpMap } from './bare.mjs';

const [, , protocol, gateway, first, count] = process.argv;
const bare = await openBare(gateway);
for (let port = Number(first); port < Number(first) + Number(count); port++) {
  checkAnswer(await bare.ask(protocol === 'pcp' ? pcpMap(bare.address, port) : natpmpMap(port)));
}
bare.close();

/**
 * @silentbot1/nat-api in a program that stays, as its README has it: it renews by itself. The ports of the command
 * line are mapped one after the other; one line says when that is done.
 */

import NatAPI from '@silentbot1/nat-api';

const ports = process.argv.slice(2).map(Number);
const client = new NatAPI();
for (const port of ports) {
  const mapped = await client.map({ publicPort: port, privatePort: port, protocol: 'TCP' });
  if (!mapped) console.log(`failed ${port}`);
}
console.log('mapped');
// Its own timers keep no program alive: that is for the program's work.
setInterval(() => {}, 60_000);

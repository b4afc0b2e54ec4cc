/** Every case, in the order of the table. */

import type { Case } from './case.ts';
import { access } from './cases/access.ts';
import { idle } from './cases/idle.ts';
import { many } from './cases/many.ts';
import { reload } from './cases/reload.ts';
import { stopping } from './cases/stopping.ts';
import { tcpClosing } from './cases/tcp-closing.ts';
import { tcpConnecting } from './cases/tcp-connecting.ts';
import { tcpFlow } from './cases/tcp-flow.ts';
import { udp } from './cases/udp.ts';

export const cases: readonly Case[] = [
  ...tcpConnecting,
  ...tcpClosing,
  ...tcpFlow,
  ...udp,
  ...idle,
  ...access,
  ...many,
  ...reload,
  ...stopping,
];

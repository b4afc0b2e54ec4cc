/** Every program, in the order of the table. */

import type { Program } from './program.ts';
import { haproxy } from './programs/haproxy.ts';
import { natward, natwardKernel } from './programs/natward.ts';
import { nginx } from './programs/nginx.ts';
import { rinetd } from './programs/rinetd.ts';
import { socat } from './programs/socat.ts';

export const PROGRAMS: readonly Program[] = [natward, natwardKernel, haproxy, nginx, socat, rinetd];

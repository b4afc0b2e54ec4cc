/** How ports are written on a command line. */

export { parseSpec, resolveSpec } from '../agent/spec.ts';

/** How hooks are written on a command line. */

export { parseDyndns, parseRun, parseShell, parseSync, parseWebhook } from '../agent/hooks/parse.ts';

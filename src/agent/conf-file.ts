/**
 * Loads conf without its side effect: `when-exit`, three dependencies down, takes every signal for itself when it
 * is loaded and ends the process at the first one. A keeper has leases to give back first.
 */

import type Conf from 'conf';

const SIGNALS = [
  'SIGHUP',
  'SIGINT',
  'SIGTERM',
  'SIGALRM',
  'SIGABRT',
  'SIGVTALRM',
  'SIGXCPU',
  'SIGXFSZ',
  'SIGUSR2',
  'SIGTRAP',
  'SIGSYS',
  'SIGQUIT',
  'SIGIO',
  'SIGPOLL',
  'SIGPWR',
  'SIGSTKFLT',
] as const;

type Listener = (() => void) & { readonly listener?: () => void };

export async function loadConf(): Promise<typeof Conf> {
  const before = SIGNALS.map((signal) => new Set(process.rawListeners(signal)));
  const { default: conf } = await import('conf');
  for (const [at, signal] of SIGNALS.entries()) {
    for (const listener of process.rawListeners(signal) as Listener[]) {
      if (before[at]?.has(listener) || !isWhenExit(listener)) continue;
      process.off(signal, listener.listener ?? listener);
    }
  }
  return conf;
}

/** Somebody else may have begun to listen meanwhile. */
function isWhenExit({ listener }: Listener): boolean {
  return listener?.toString().includes('this.exit(') === true;
}

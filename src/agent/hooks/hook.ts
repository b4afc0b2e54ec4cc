/** What is done when something happens to a lease: as the person set it up, checked (parse.ts). */

import type { AgentEvent } from '../events.ts';

export const HOOK_EVENTS = ['granted', 'changed', 'lost', 'address-changed'] as const;
export type HookEvent = (typeof HOOK_EVENTS)[number];

/** One of the agent's events that a hook may be set on. */
export type HookedEvent = Extract<AgentEvent, { type: HookEvent }>;

interface HookBase {
  /** Left out: on all of them. A sync and a name update come when there is something new to tell. */
  readonly on?: readonly HookEvent[] | undefined;
  /** How long a program may run (30 where nothing is said), or a service may take to answer (10). 1..3600. */
  readonly timeoutSeconds?: number | undefined;
}

/** Runs a program: argv as it stands, or one line for the shell. */
export type RunHook = HookBase &
  (
    | { readonly kind: 'run'; readonly argv: readonly [string, ...string[]] }
    | { readonly kind: 'shell'; readonly line: string }
  );

/** POSTs the event as JSON. */
export interface WebhookHook extends HookBase {
  readonly kind: 'webhook';
  readonly url: string;
}

export const SYNC_CLIENTS = ['qbittorrent', 'transmission', 'deluge'] as const;
export type SyncClient = (typeof SYNC_CLIENTS)[number];

/** Tells a BitTorrent client the port to listen on. The lease's internal port follows the external one. */
export interface SyncHook extends HookBase {
  readonly kind: 'sync';
  readonly client: SyncClient;
  /** Of its web interface; user and password may stand in it. */
  readonly url: string;
}

/** Tells a name service the external address, by the dyndns2 protocol. */
export interface DyndnsHook extends HookBase {
  readonly kind: 'dyndns';
  /** Of the update service, with user and password: https://user:password@members.dyndns.org/nic/update */
  readonly url: string;
  readonly hostname: string;
}

export type Hook = RunHook | WebhookHook | SyncHook | DyndnsHook;

/** What can move each kind, where `on` does not say less. */
const MOVED_BY: Readonly<Record<Hook['kind'], readonly HookEvent[]>> = {
  run: HOOK_EVENTS,
  shell: HOOK_EVENTS,
  webhook: HOOK_EVENTS,
  sync: ['granted', 'changed'],
  dyndns: ['granted', 'changed', 'address-changed'],
};

/** The events that a hook acts on. */
export function eventsOf({ kind, on }: Pick<Hook, 'kind' | 'on'>): readonly HookEvent[] {
  return MOVED_BY[kind].filter((event) => on === undefined || on.includes(event));
}

const CLIENT_NAMES: Readonly<Record<SyncClient, string>> = {
  qbittorrent: 'qBittorrent',
  transmission: 'Transmission',
  deluge: 'Deluge',
};

/**
 * A hook in a few words, for messages and lists. Leaves out whatever may be secret: arguments, the paths of
 * URLs (many a webhook's key is its path), users and passwords.
 */
export function describeHook(hook: Hook): string {
  switch (hook.kind) {
    case 'run':
      return `the program ${hook.argv[0]}`;
    case 'shell':
      return `the shell line "${hook.line.trimStart().split(/\s/, 1)[0]} ..."`;
    case 'webhook':
      return `the webhook at ${originOf(hook.url)}`;
    case 'sync':
      return `${CLIENT_NAMES[hook.client]} at ${originOf(hook.url)}`;
    case 'dyndns':
      return `the name ${hook.hostname} at ${originOf(hook.url)}`;
  }
}

function originOf(url: string): string {
  return new URL(url).origin;
}

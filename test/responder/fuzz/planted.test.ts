/** The harness itself: each fault that is put in is found. */

import { describe, expect, test } from 'vitest';
import type { GrantRequest } from '../../../src/responder/grant.ts';
import type { Granting } from '../../../src/responder/granting.ts';
import type { LeaseGrants } from '../../../src/responder/lease-grants.ts';
import type { Campaign } from './campaign.ts';
import { CAMPAIGNS } from './campaigns.ts';
import type { Plant } from './ground.ts';
import { fuzz } from './run.ts';

const COUNT = 6000;

/** The grants as they are, but for what is `changed`. */
function withFault(grants: LeaseGrants, changed: Partial<Granting>): Granting {
  return new Proxy(grants, {
    get(target, name) {
      const own: unknown = Reflect.get(name in changed ? changed : target, name);
      return typeof own === 'function' ? own.bind(target) : own;
    },
  });
}

const FAULTS: Readonly<
  Record<string, { readonly protocols: readonly string[]; readonly plant: Plant; readonly found: RegExp }>
> = {
  'whoever asks is taken for the host that is named': {
    protocols: ['soap'],
    plant: (grants) =>
      withFault(grants, {
        grant: (request) => grants.grant({ ...request, requester: request.internalClient }),
      }),
    found: /made or changed by nobody who may/,
  },
  'a nonce is taken for any other': {
    protocols: ['pcp'],
    plant: (grants) =>
      withFault(grants, { grant: (request) => grants.grant({ ...request, ...nonceThere(grants, request) }) }),
    found: /nobody who may|not in the table/,
  },
  'one that ends a mapping ends its neighbour': {
    protocols: ['pcp', 'natpmp'],
    plant: (grants) =>
      withFault(grants, {
        remove: (via, pick) =>
          grants.remove(via, (table) => (pick(table).length > 0 ? table.list().slice(0, 2) : [])),
      }),
    found: /ended by nobody who may|deleted, and in the table/,
  },
  'what is ended is held on outside': {
    protocols: ['pcp', 'natpmp', 'soap'],
    plant: (grants, outer) =>
      withFault(grants, {
        remove: async (via, pick) => {
          const held = [...outer.holdings];
          const gone = await grants.remove(via, pick);
          for (const one of held) outer.holdings.add(one);
          return gone;
        },
      }),
    found: /held (outside for nobody|twice)/,
  },
  'a place in the quota is given back that was not taken': {
    protocols: ['pcp', 'natpmp', 'soap'],
    plant: (grants) =>
      withFault(grants, {
        grant: async (request) => {
          const outcome = await grants.grant(request);
          if (outcome.kind === 'refused' && outcome.refusal === 'over-quota')
            grants.quota.give(request.internalClient);
          return outcome;
        },
      }),
    found: /\d+ of \d|mapping \d+, with/,
  },
  'a place in the quota is lost': {
    protocols: ['pcp', 'natpmp', 'soap'],
    plant: (grants) =>
      withFault(grants, {
        grant: async (request) => {
          const outcome = await grants.grant(request);
          const rights = {
            externalPorts: [],
            maxMappings: 100,
            requestsPerSecond: 1,
            mayMapForOthers: false,
          };
          if (outcome.kind === 'refused' && outcome.refusal === 'taken')
            grants.quota.take(request.internalClient, rights);
          return outcome;
        },
      }),
    found: /mapping \d+, with/,
  },
  'a request throws': {
    protocols: ['pcp', 'natpmp', 'soap'],
    plant: (grants) =>
      withFault(grants, {
        grant: (request) =>
          request.internalPort === 80 ? Promise.reject(new Error('80')) : grants.grant(request),
      }),
    found: /internal error/,
  },
  'the answer tells another port': {
    protocols: ['pcp', 'natpmp'],
    plant: (grants) =>
      withFault(grants, {
        grant: async (request) => {
          const outcome = await grants.grant(request);
          if (outcome.kind === 'refused') return outcome;
          return { ...outcome, entry: { ...outcome.entry, externalPort: outcome.entry.externalPort ^ 1 } };
        },
      }),
    found: /granted, and not in the table/,
  },
  'nobody answers': {
    protocols: ['pcp', 'natpmp', 'soap'],
    plant: (grants) => withFault(grants, { grant: () => new Promise(() => undefined) }),
    found: /no answer to a good request/,
  },
};

/** The nonce that the mapping has, whatever was sent. */
function nonceThere(grants: LeaseGrants, request: GrantRequest): Pick<GrantRequest, 'nonce'> {
  const there = grants
    .list()
    .find(
      (entry) =>
        entry.protocol === request.protocol &&
        entry.internalClient === request.internalClient &&
        entry.internalPort === request.internalPort,
    );
  const nonce = there?.nonce ?? request.nonce;
  return nonce === undefined ? {} : { nonce };
}

describe.for(Object.entries(FAULTS))('the harness finds that %s', ([, { protocols, plant, found }]) => {
  test.for(protocols)('over %s', { timeout: 60_000 }, async (name) => {
    const campaign = CAMPAIGNS[name]?.() as Campaign;
    await expect(fuzz(campaign, { count: COUNT, seed: 5, plant })).rejects.toThrow(found);
  });
});

test('the harness sees memory that is not given back', { timeout: 60_000 }, async () => {
  const kept: Uint8Array[][] = [];
  const plant: Plant = (grants) =>
    withFault(grants, {
      grant: (request) => {
        kept.push(Array.from({ length: 50 }, () => new Uint8Array(4)));
        return grants.grant(request);
      },
    });
  const { heapBytes } = await fuzz(CAMPAIGNS['natpmp']?.() as Campaign, { count: 10_000, seed: 5, plant });
  expect(heapBytes[1] - heapBytes[0]).toBeGreaterThan(4 * 1024 * 1024);
});

import { describe, expect, test } from 'vitest';
import type { Line } from '../../src/agent/gateway-watch.ts';
import type { Holding } from '../../src/agent/lease-record.ts';
import { type Found, TableLook } from '../../src/agent/table-look.ts';
import { type ErrorCode, NatwardError } from '../../src/errors.ts';
import { remembered } from './remembered.ts';

/** What the gateway's table shows, by external port or pinhole; or why it shows nothing. */
interface Table {
  readonly shown: Set<number>;
  readonly asked: number[];
  failure?: ErrorCode;
}

function tableOf(...shown: readonly number[]): Table {
  return { shown: new Set(shown), asked: [] };
}

function lineTo(table: Table | undefined, family: 4 | 6 = 4): Line {
  const looker = {
    async holds({ externalPort, pinholeId }: { externalPort: number; pinholeId: number | undefined }) {
      const number = pinholeId ?? externalPort;
      table?.asked.push(number);
      if (table?.failure !== undefined) throw new NatwardError(table.failure, 'it does not tell');
      return table?.shown.has(number);
    },
  };
  const mappers = [{ holds: undefined }, ...(table === undefined ? [] : [looker])];
  const { signal } = new AbortController();
  return { gateway: { family }, session: { race: { mappers } }, signal } as unknown as Line;
}

function held(externalPort: number, change: Parameters<typeof remembered>[0] = {}): Holding {
  const mapping = remembered({ externalPort, ...change });
  return { leaseKey: `01234567/${externalPort}`, interface: 'lo', hardwareAddress: null, mapping };
}

const UPNP = { via: 'upnp', nonce: null } as const;

describe('what UPnP has granted', () => {
  test('is there where the table shows all of it, and gone otherwise', async () => {
    const line = lineTo(tableOf(1, 2));
    const look = new TableLook();
    expect(await look.find([held(1, UPNP), held(2, UPNP)], line)).toBe('there');
    expect(await look.find([held(1, UPNP), held(3, UPNP)], line)).toBe('gone');
  });
});

describe('what another protocol has granted', () => {
  /** Looks at each of these ports, one after the other. */
  async function looksAt(table: Table, ...ports: readonly number[]): Promise<Found[]> {
    const look = new TableLook();
    const found: Found[] = [];
    for (const port of ports) found.push(await look.find([held(port)], lineTo(table)));
    return found;
  }

  test('is gone where the table has shown such a one before', async () => {
    expect(await looksAt(tableOf(1), 1, 2)).toEqual(['there', 'gone']);
  });

  test('and is not shown at first was gone, where it is shown when it was asked for again', async () => {
    const table = tableOf();
    const look = new TableLook();
    expect(await look.find([held(1)], lineTo(table))).toBe('unseen');
    table.shown.add(1);
    expect(await look.find([held(1)], lineTo(table))).toBe('seen-again');
    expect(await look.find([held(1)], lineTo(table))).toBe('there');
    expect(await look.find([held(2)], lineTo(table))).toBe('gone');
  });

  test('and is not shown twice is in another table, which is not asked about again', async () => {
    const table = tableOf();
    expect(await looksAt(table, 1, 1, 1, 2)).toEqual(['unseen', 'unseen', 'unknown', 'unknown']);
    expect(table.asked).toEqual([1, 1]);
  });
});

test('where no protocol shows a table nobody knows', async () => {
  expect(await new TableLook().find([held(1)], lineTo(undefined))).toBe('unknown');
});

test('of pinholes those with a number are looked for, and the others taken for there', async () => {
  const table = tableOf(7);
  const line = lineTo(table, 6);
  expect(await new TableLook().find([held(1, { pinholeId: 7 }), held(2)], line)).toBe('there');
  expect(await new TableLook().find([held(1, { pinholeId: 8 })], line)).toBe('gone');
  expect(table.asked).toEqual([7, 8]);
});

test('a gateway that answers and cannot tell leaves it open, and silence is thrown', async () => {
  const table = tableOf();
  table.failure = 'REFUSED';
  expect(await new TableLook().find([held(1)], lineTo(table))).toBe('unknown');
  table.failure = 'TIMEOUT';
  await expect(new TableLook().find([held(1)], lineTo(table))).rejects.toMatchObject({ code: 'TIMEOUT' });
});

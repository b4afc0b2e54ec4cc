/** natward itself is killed and starts again: what its clients mapped is theirs as before. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ENGINES, leads, startResponding, untilOuter } from '../support/inner.ts';
import { startKeep, until } from '../support/keeping.ts';
import { ADDRESSES } from '../support/lab.ts';
import { describeLab, freshHome } from '../support/suite.ts';

const { inner1 } = ADDRESSES;

describeLab('natward restarts with clients behind it', { inner: true }, (lab) => {
  beforeAll(() => lab().startGateway());

  test.each(ENGINES)('%s: mappings go on, and end when their clients say so', async (engine) => {
    const home = freshHome();
    const before = await startResponding(lab(), { engine, home });
    const keep = startKeep(lab(), ['8080', '--via', 'pcp'], { ...freshHome(), ns: 'inner1' });
    await keep.event('granted');
    await before.upnpc('inner1', '-a', inner1, '90', '8090', 'tcp', '600');
    await lab().exec('inner2', ['natpmpc', '-a', '8091', '91', 'udp', '600']);
    const file = join(lab().homeOf(home), 'ledger.json');
    await until('a ledger with all of them', async () => {
      const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
      return ['8080', '8090', '8091'].every((port) => text.includes(`"externalPort":${port}`));
    });
    const rules = await lab().natRules();

    await before.stop('SIGKILL');
    const after = await startResponding(lab(), { engine, home });
    await until('all three', async () => {
      const { responders } = await after.status();
      return responders[0]?.mappings === 3;
    });
    expect(await lab().natRules()).toEqual(rules);
    await Promise.all([
      leads(lab(), { protocol: 'tcp', externalPort: 8080 }),
      leads(lab(), { protocol: 'tcp', externalPort: 8090, internalPort: 90 }),
      leads(lab(), { protocol: 'udp', externalPort: 8091, to: 'inner2', internalPort: 91 }),
    ]);
    expect(await after.upnpc('inner1', '-l')).toContain(`8090->${inner1}:90`);

    expect(await after.upnpc('inner1', '-d', '8090', 'tcp')).toContain('returned : 0');
    await lab().exec('inner2', ['natpmpc', '-a', '0', '91', 'udp', '0']);
    await keep.end();
    await untilOuter(lab());
    await after.stop();
  });
});

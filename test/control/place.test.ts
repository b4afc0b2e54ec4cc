import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { clientPlaces, ownPlaces, stateDirectory } from '../../src/control/place.ts';
import { temporary } from './support/fake-agent.ts';

const SERVICE = '/run/natward/control.sock';

function environment(variables: Record<string, string>): void {
  const unset = {
    NATWARD_HOME: '',
    STATE_DIRECTORY: '',
    RUNTIME_DIRECTORY: '',
    XDG_RUNTIME_DIR: '/nowhere',
    XDG_DATA_HOME: '/data',
  };
  for (const [name, value] of Object.entries({ ...unset, ...variables })) vi.stubEnv(name, value);
  onTestFinished(() => void vi.unstubAllEnvs());
}

describe.runIf(process.platform === 'linux')('on Linux', () => {
  test('NATWARD_HOME has everything under it, and means its own agent alone', async () => {
    environment({ NATWARD_HOME: '/home/one', RUNTIME_DIRECTORY: '/run/x', STATE_DIRECTORY: '/var/lib/x' });
    expect(await stateDirectory()).toBe('/home/one');
    expect(await ownPlaces()).toEqual(['/home/one/control.sock']);
    expect(await clientPlaces()).toEqual(['/home/one/control.sock']);
  });

  test('a NATWARD_HOME that is relative is so to where natward was started', async () => {
    environment({ NATWARD_HOME: 'one' });
    expect(await ownPlaces()).toEqual([join(process.cwd(), 'one', 'control.sock')]);
  });

  test('a login has its runtime directory, and cron finds the same agent by the state directory', async () => {
    const runtime = await temporary();
    environment({ XDG_RUNTIME_DIR: runtime });
    const own = [join(runtime, 'natward', 'control.sock'), '/data/natward/control.sock'];
    expect(await ownPlaces()).toEqual(own);
    expect(await clientPlaces()).toEqual([...own, SERVICE]);
  });

  test('a runtime directory that is not there, or relative, is none', async () => {
    environment({});
    expect(await ownPlaces()).toEqual(['/data/natward/control.sock']);
    environment({ XDG_RUNTIME_DIR: '.' });
    expect(await ownPlaces()).toEqual(['/data/natward/control.sock']);
  });

  test.runIf(process.getuid?.() === 0)('a runtime directory of another user is none', async () => {
    const runtime = await temporary();
    const { chownSync } = await import('node:fs');
    chownSync(runtime, 12_345, 12_345);
    environment({ XDG_RUNTIME_DIR: runtime });
    expect(await ownPlaces()).toEqual(['/data/natward/control.sock']);
  });

  test('a service uses its own directories, the first where it has several', async () => {
    environment({ RUNTIME_DIRECTORY: '/run/natward:/run/other', STATE_DIRECTORY: '/var/lib/natward' });
    expect(await stateDirectory()).toBe('/var/lib/natward');
    expect(await ownPlaces()).toEqual([SERVICE, '/var/lib/natward/control.sock']);
    expect(await clientPlaces()).toEqual([SERVICE, '/var/lib/natward/control.sock']);
  });
});

test('on Windows each home has a pipe of its own', async () => {
  const home = await temporary();
  await mkdir(join(home, 'a'));
  environment({ NATWARD_HOME: join(home, 'a') });
  vi.spyOn(process, 'platform', 'get').mockReturnValue('win32');
  onTestFinished(() => void vi.restoreAllMocks());
  const [pipe] = await ownPlaces();
  expect(pipe).toMatch(/^\\\\\.\\pipe\\natward-[0-9a-f]{16}$/);
  vi.stubEnv('NATWARD_HOME', join(home, 'b'));
  expect(await ownPlaces()).not.toEqual([pipe]);
});

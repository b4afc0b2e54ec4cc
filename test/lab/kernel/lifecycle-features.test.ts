/**
 * Which parts of nftables the kernel takes. A kernel that lacks a module cannot be had here: an nft that refuses text
 * with a word in it stands in for one, by the words that a kernel would refuse with.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { missingFeatures } from '../../../src/forwarder/nftables/features.ts';
import { Nft } from '../../../src/forwarder/nftables/tools.ts';
import { type RunProgram, runProgram } from '../../../src/system/program.ts';
import { kernelState } from './support/kernel-state.ts';
import { describeKernel } from './support/topology.ts';

const REFUSING = (word: string) => `#!/bin/sh
text=$(cat)
case "$text" in *'${word}'*) echo 'Error: Could not process rule: No such file or directory' >&2; exit 1 ;; esac
printf '%s\\n' "$text" | /usr/sbin/nft "$@"
`;

describeKernel('kernel: what it lacks', (scene) => {
  /** nft as the router has it, or one that refuses what has this word in it. */
  const nft = (word?: string, as: readonly string[] = []): Nft => {
    const directory = mkdtempSync(join(tmpdir(), 'natward-nft-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    if (word !== undefined) writeFileSync(join(directory, 'nft'), REFUSING(word), { mode: 0o755 });
    const inRouter: RunProgram = (request) => {
      if ('shell' in request.command) throw new Error('no shell is needed');
      const path = `PATH=${directory}${delimiter}/usr/sbin${delimiter}/usr/bin`;
      const [program, ...args] = scene().router.command([...as, 'env', path, ...request.command]);
      return runProgram({ ...request, command: [program as string, ...args] });
    };
    return new Nft(inRouter);
  };

  test('this one lacks nothing, and being asked does nothing to it', async () => {
    const before = await kernelState(scene().router);
    expect(await missingFeatures(nft())).toEqual(new Set());
    expect(await kernelState(scene().router)).toEqual(before);
  });

  test.for([
    ['ct timeout', 'timeouts'],
    ['ct count', 'counts'],
    ['limit rate', 'rates'],
    ['quota', 'quotas'],
    ['dup to 2001', 'copies'],
    ['reject', 'rejects'],
    ['egress', 'egress'],
  ] as const)('one that knows no "%s" lacks %s alone', async ([word, feature]) => {
    expect(await missingFeatures(nft(word))).toEqual(new Set([feature]));
  });

  test.for([
    ['masquerade', /translation of addresses/],
    ['fib daddr', /fib/],
    ['flags dynamic', /maps of marks and counters/],
  ] as const)('without "%s" the engine cannot run at all', async ([word, why]) => {
    await expect(missingFeatures(nft(word))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(why),
    });
  });

  test('who may not ask is told that, and not that all is missing', async () => {
    const user = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    await expect(missingFeatures(nft(undefined, user))).rejects.toMatchObject({ code: 'NOT_AUTHORIZED' });
  });
});

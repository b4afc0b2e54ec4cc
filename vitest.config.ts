import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.ts';
import { ownNetworkUnavailable } from './test/support/own-network.ts';
import { ownNetworkPool } from './test/support/own-network-pool.ts';

// Where .ci/run wants the runner's counts, beside what people read.
const report = process.env.NATWARD_TEST_REPORT;

// What loads rules into a kernel: never the machine's own.
const kernel = ['test/lab/kernel/contract{,.*}.test.ts'];

const config: ViteUserConfig = defineConfig({
  test: {
    // Where root runs the tests, the agents they start leave the kernel alone, but for those that ask for it.
    env: { NATWARD_ENGINE: 'relay' },
    sequence: { sequencer: LongestFirst },
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/lab/**', 'test/conformance/**'],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'conformance',
          include: ['test/conformance/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        // Real daemons in namespaces of each file's own: they mostly wait.
        test: {
          name: 'lab',
          include: ['test/lab/**/*.test.ts'],
          exclude: ['test/lab/kernel/**'],
          maxWorkers: 3,
          sequence: { groupOrder: 3 },
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        // Each file has namespaces of its own, and mostly waits.
        test: {
          name: 'kernel-lab',
          include: ['test/lab/kernel/**/*.test.ts'],
          exclude: kernel,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        // Where none can be had the files skip themselves.
        test: {
          name: 'kernel',
          include: kernel,
          ...(ownNetworkUnavailable() === undefined ? { pool: ownNetworkPool } : {}),
          // They mostly wait, and do not see each other.
          maxWorkers: 3,
          sequence: { groupOrder: 2 },
          testTimeout: 60_000,
        },
      },
    ],
  },
});

export default config;

/**
 * Files that take minutes begin first: what begins last runs alone at the end. vitest knows durations where it has run
 * before, and on a clean clone it goes by sizes.
 */

import { BaseSequencer, type TestSpecification } from 'vitest/node';

const LONGEST = ['soak', 'recovery', 'mapping', 'agent', 'order', 'faults', 'vpn'];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONGEST.findIndex((name) => moduleId.endsWith(`/test/lab/${name}.test.ts`));
      return at < 0 ? LONGEST.length : at;
    };
    return sorted.toSorted((one, other) => rank(one) - rank(other));
  }
}

import { KERNEL } from '../../contract/engine-traits.ts';
import { forwardEngineContract } from '../../contract/forward-engine.ts';
import { describeInOwnNetwork, kernelUnderTest } from './contract.support.ts';

describeInOwnNetwork('the contract of engines', () =>
  forwardEngineContract('the kernel', KERNEL, kernelUnderTest),
);

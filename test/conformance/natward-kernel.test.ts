import { ownNetworkUnavailable } from '../support/own-network.ts';
import { describeOwed } from './owed.ts';
import { natwardKernel } from './programs/natward.ts';

describeOwed(natwardKernel, ownNetworkUnavailable());

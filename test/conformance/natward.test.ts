import { describeOwed } from './owed.ts';
import { natward } from './programs/natward.ts';

describeOwed(natward);

/** Which failures of a request say that nobody has answered: another conversation may help. Any other is an answer. */

import { isNatwardError } from '../errors.ts';

export function isSilence(error: unknown): boolean {
  return isNatwardError(error, 'TIMEOUT', 'UNREACHABLE', 'NO_GATEWAY', 'ABORTED');
}

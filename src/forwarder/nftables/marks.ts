/** The halves of connection marks and firewall marks: the upper is natward's, the lower everybody else's. */

export const OWN_MASK = 0xffff_0000;
export const OWN_BITS = '0xffff0000';
export const OTHER_BITS = '0x0000ffff';

/** The number of the rule, or of the way, that a mark of 32 bits holds. */
export function numberOf(mark: number): number {
  return mark >>> 16;
}

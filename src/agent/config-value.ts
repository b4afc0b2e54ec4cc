/** How single values of the configuration file are read: text that a function makes something of, or finds fault with. */

import * as v from 'valibot';
import { isNatwardError, NatwardError } from '../errors.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';

/** Text that `what` makes something of, or throws USAGE. */
export function read<T>(what: (text: string) => T): v.GenericSchema<unknown, T> {
  return v.pipe(
    v.string('write it as text, in quotes'),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      try {
        return what(dataset.value);
      } catch (error) {
        if (!isNatwardError(error)) throw error;
        addIssue({ message: error.message });
        return NEVER;
      }
    }),
  );
}

export function whole(min: number, max: number): v.GenericSchema<unknown, number> {
  const message = `write a whole number, ${min} to ${max}`;
  return v.pipe(
    v.number(message),
    v.check((value) => Number.isSafeInteger(value) && value >= min && value <= max, message),
  );
}

export const yesOrNo: v.GenericSchema<unknown, boolean> = v.boolean('write true or false');

export const address: v.GenericSchema<unknown, IpAddress> = read((text) => {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw usage(`"${text}" is not an IP address`);
  return parsed;
});

export function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}

/** The words that every document of the control API is made of: bounded texts and numbers, and how a schema is tied to its type. */

import * as v from 'valibot';
import { type Family, type IpAddress, parseAddress } from '../net/address.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';

/** A type without what JSON has no word for, so that two can be compared. */
type Bare<T> = T extends object ? { -readonly [K in keyof T]-?: Bare<T[K]> } : T;

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? unknown : never) : never;

/** Takes a schema that lets out Ts, every T and nothing else, and names it as docs/api.md does. */
export function of<T>(
  name: string,
): <S extends v.GenericSchema<unknown, T>>(
  schema: S & Same<Bare<T>, Bare<v.InferOutput<S>>>,
) => v.SchemaWithPipe<readonly [S, v.TitleAction<v.InferOutput<S>, string>]> {
  return <S extends v.GenericSchema<unknown, T>>(schema: S & Same<Bare<T>, Bare<v.InferOutput<S>>>) =>
    v.pipe(schema as S, v.title<v.InferOutput<S>, string>(name));
}

export function described<const S extends v.GenericSchema>(
  schema: S,
  text: string,
): v.SchemaWithPipe<readonly [S, v.DescriptionAction<v.InferOutput<S>, string>]> {
  return v.pipe(schema, v.description<v.InferOutput<S>, string>(text));
}

export const text = (max: number): v.GenericSchema<unknown, string> => v.pipe(v.string(), v.maxLength(max));
export const word = (max: number): v.GenericSchema<unknown, string> =>
  v.pipe(v.string(), v.minLength(1), v.maxLength(max));
export const whole = (min: number, max: number): v.GenericSchema<unknown, number> =>
  v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
/** What the agent says: bounded against an agent gone mad, not against long words. */
export const said: v.GenericSchema<unknown, string> = text(65_536);
export const address: v.GenericSchema<unknown, IpAddress> = v.pipe(
  word(64),
  v.check((one) => parseAddress(one) === one, 'not an IP address as 192.0.2.1 or 2001:db8::8'),
  v.title('IP address'),
);
export const port: v.GenericSchema<unknown, number> = whole(1, 65_535);
export const seconds: v.GenericSchema<unknown, number> = whole(0, 2 ** 32 - 1);
export const count: v.GenericSchema<unknown, number> = whole(0, Number.MAX_SAFE_INTEGER);
export const time: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.isoTimestamp());
export const transport: v.GenericSchema<unknown, TransportProtocol> = v.picklist(['tcp', 'udp']);
export const via: v.GenericSchema<unknown, MappingProtocol> = v.picklist(['pcp', 'natpmp', 'upnp']);
export const ipFamily: v.GenericSchema<unknown, Family> = v.picklist([4, 6]);

/** JSON has no undefined: a field that may be undefined is one that is left out. */
export function omissible<const S extends v.GenericSchema>(schema: S): v.UndefinedableSchema<S, undefined> {
  return v.optional(schema) as unknown as v.UndefinedableSchema<S, undefined>;
}

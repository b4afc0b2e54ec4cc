/** Writes a service description (UDA 2.0, section 2.5): the actions that a control point may call. */

import { configIdAttribute } from '../wire/description.ts';
import { escapeXml } from '../wire/xml.ts';
import type { ActionShape, Service, StateVariable } from './services.ts';

/** For UPnP version `1.minor`. */
export function encodeScpd(service: Service, minor: 0 | 1): string {
  return (
    `<?xml version="1.0"?>\r\n<scpd xmlns="urn:schemas-upnp-org:service-1-0"${configIdAttribute(minor)}>` +
    `<specVersion><major>1</major><minor>${minor}</minor></specVersion>` +
    `<actionList>${each(service.actions, encodeAction)}</actionList>` +
    `<serviceStateTable>${each(service.variables, encodeVariable)}</serviceStateTable></scpd>\r\n`
  );
}

function encodeAction(name: string, shape: ActionShape): string {
  const list =
    each(shape.in, (argument, variable) => encodeArgument(argument, 'in', variable)) +
    each(shape.out, (argument, variable) => encodeArgument(argument, 'out', variable));
  return `<action><name>${name}</name>${list === '' ? '' : `<argumentList>${list}</argumentList>`}</action>`;
}

function encodeArgument(name: string, direction: 'in' | 'out', variable: string): string {
  return (
    `<argument><name>${name}</name><direction>${direction}</direction>` +
    `<relatedStateVariable>${variable}</relatedStateVariable></argument>`
  );
}

function encodeVariable(name: string, { type, allowed = [], evented }: StateVariable): string {
  const values = allowed.map((value) => `<allowedValue>${escapeXml(value)}</allowedValue>`).join('');
  return (
    `<stateVariable sendEvents="${evented === true ? 'yes' : 'no'}"><name>${name}</name><dataType>${type}</dataType>` +
    `${values === '' ? '' : `<allowedValueList>${values}</allowedValueList>`}</stateVariable>`
  );
}

function each<Value>(
  record: Readonly<Record<string, Value>>,
  write: (name: string, value: Value) => string,
): string {
  return Object.entries(record)
    .map(([name, value]) => write(name, value))
    .join('');
}

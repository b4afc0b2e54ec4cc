/**
 * Takes a SOAP call to its action and brings the answer back as HTTP (UDA 2.0, section 3): the header names
 * the action, the body carries its arguments, a fault goes out with status 500.
 */

import { decodeSoapCall, encodeSoapReply, type SoapValues } from '../wire/soap.ts';
import { type ActionCall, type ActionReply, Fault, fault } from './actions/action.ts';
import { ACTIONS } from './actions/actions.ts';
import { around } from './hooks.ts';
import { type HttpReply, type HttpRequest, plainAnswer, xmlAnswer } from './http-reply.ts';
import { type Service, serviceType } from './services.ts';
import type { Site } from './site.ts';

/** `"urn:...:service:WANIPConnection:1#AddPortMapping"`, the quotes optional. */
export function soapActionOf(header: string | undefined): { type: string; action: string } | undefined {
  const [, type, action] = /^\s*"?([^"#\s]{1,200})#(\w{1,64})"?\s*$/.exec(header ?? '') ?? [];
  return type === undefined || action === undefined ? undefined : { type, action };
}

export async function answerSoap(request: HttpRequest, service: Service, site: Site): Promise<HttpReply> {
  const called = soapActionOf(request.header('soapaction'));
  if (called === undefined) return plainAnswer(400);
  const { type, action } = called;
  const version = calledVersion(type, service, site);
  let values: SoapValues = {};
  try {
    const call = decodeSoapCall(request.body);
    if (call.action !== action) return plainAnswer(400);
    values = call.values;
  } catch {
    return plainAnswer(400);
  }
  const call: ActionCall = {
    service: service.name,
    version: version ?? 0,
    action,
    values,
    requester: request.source,
    path: request.path,
  };
  const known = version !== undefined && Object.hasOwn(service.actions, action);
  const isOptional = version !== undefined && service.optional.includes(action);
  const reply = await around<ActionCall, ActionReply>(site.hooks.all('action'), call, (made) =>
    known ? perform(made, site) : Promise.resolve(fault(isOptional ? 602 : 401)),
  );
  if (reply.kind === 'reset') return reply;
  const document = encodeSoapReply({ serviceType: type, action }, reply);
  const written = site.hooks.all('document').reduce((xml, change) => change(xml, 'soap'), document);
  return xmlAnswer(reply.kind === 'fault' ? 500 : 200, written);
}

async function perform(call: ActionCall, site: Site): Promise<ActionReply> {
  const action = ACTIONS[call.action];
  if (action === undefined) return fault(401);
  try {
    return await action(call, site);
  } catch (error) {
    if (error instanceof Fault) return fault(error.errorCode);
    throw error;
  }
}

/** The version that was called: the service's own or a lower one; undefined where it is another service. */
function calledVersion(type: string, service: Service, site: Site): number | undefined {
  for (let version = service.version; version > 0; version--) {
    const own = site.hooks
      .all('urn')
      .reduce((urn, change) => change(urn), serviceType({ ...service, version }));
    if (own === type) return version;
  }
  return undefined;
}

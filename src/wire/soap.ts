/**
 * SOAP as UPnP uses it (UDA 2.0, section 3), both directions: one action with named text arguments, one
 * answer with named text values, or a fault that carries UPnP's own error code. Answers are read by local
 * names alone, since routers get the namespaces wrong. Also the listing of GetListOfPortMappings, which is
 * a document inside a value (WANIPConnection:2, section 2.3.31).
 */

import { NatwardError } from '../errors.ts';
import { child, childText, descendant, elements, escapeXml, parseXml, type XmlElement } from './xml.ts';

export type SoapValues = Readonly<Record<string, string>>;

export interface SoapCall {
  readonly serviceType: string;
  readonly action: string;
  readonly values: SoapValues;
}

export type SoapReply =
  | { readonly kind: 'response'; readonly values: SoapValues }
  | { readonly kind: 'fault'; readonly errorCode: number; readonly errorDescription: string };

const ENVELOPE = 'http://schemas.xmlsoap.org/soap/envelope/';
const ENCODING = 'http://schemas.xmlsoap.org/soap/encoding/';

/** The value of the SOAPACTION header. */
export function soapAction(serviceType: string, action: string): string {
  return `"${serviceType}#${action}"`;
}

/** Arguments go out in the order given: some routers read them by place, not by name. */
export function encodeSoapCall(call: SoapCall): string {
  return envelope(
    `<u:${call.action} xmlns:u="${escapeXml(call.serviceType)}">${elements(call.values)}</u:${call.action}>`,
  );
}

/** Decodes what a control point sent. Throws MALFORMED, or HOSTILE from the XML limits. */
export function decodeSoapCall(document: string): SoapCall {
  return decodePlainCall(document) ?? decodeAnyCall(document);
}

const ATTRIBUTES = '(?:\\s+[\\w:.-]+="[^"<>&]*")*\\s*';
const CALL_HEAD = new RegExp(
  `^\\s*(?:<\\?xml(?:\\s+[\\w]+="[^"<>&?]*")*\\s*\\?>\\s*)?<([A-Za-z]\\w*):Envelope${ATTRIBUTES}>\\s*<\\1:Body>\\s*` +
    `<([A-Za-z]\\w*):([A-Za-z]\\w*)(${ATTRIBUTES})>`,
);
const CALL_END = /\s*<\/(\w+):(\w+)>\s*<\/(\w+):Body>\s*<\/(\w+):Envelope>\s*$/y;
const ARGUMENT = /\s*<([A-Za-z]\w*)(?:\s*\/>|>([^<&]*)<\/\1>)/y;

/**
 * The call as nearly all control points write it: prefixes, plain text, nothing between. It is read in a tenth of the
 * time that a parser of everything takes; undefined where anything is otherwise.
 */
function decodePlainCall(document: string): SoapCall | undefined {
  const [head, envelope, prefix, action, attributes = ''] = CALL_HEAD.exec(document) ?? [];
  if (head === undefined || envelope === undefined || prefix === undefined || action === undefined)
    return undefined;
  const values: Record<string, string> = {};
  let at = head.length;
  for (;;) {
    ARGUMENT.lastIndex = at;
    const [whole, name, text = ''] = ARGUMENT.exec(document) ?? [];
    if (whole === undefined || name === undefined) break;
    if (name === '__proto__') return undefined;
    values[name] = text.trim();
    at += whole.length;
  }
  CALL_END.lastIndex = at;
  const [, ...ends] = CALL_END.exec(document) ?? [];
  if (ends.join(' ') !== `${prefix} ${action} ${envelope} ${envelope}`) return undefined;
  const declared = attributes.split(`xmlns:${prefix}="`, 2)[1];
  return { serviceType: declared?.slice(0, declared.indexOf('"')) ?? '', action, values };
}

function decodeAnyCall(document: string): SoapCall {
  const action = bodyOf(parseXml(document))?.children[0];
  if (action === undefined) throw malformed('no action');
  return { serviceType: action.namespace ?? '', action: action.name, values: valuesOf(action) };
}

export function encodeSoapReply(call: Pick<SoapCall, 'serviceType' | 'action'>, reply: SoapReply): string {
  if (reply.kind === 'response') {
    const name = `u:${call.action}Response`;
    return envelope(
      `<${name} xmlns:u="${escapeXml(call.serviceType)}">${replyValues(reply.values)}</${name}>`,
    );
  }
  const detail = elements({ errorCode: reply.errorCode, errorDescription: reply.errorDescription });
  return envelope(
    '<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>' +
      `<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">${detail}</UPnPError></detail></s:Fault>`,
  );
}

/** The listing, a document inside a value, goes out unescaped: miniupnpc reads it no other way. */
function replyValues(values: SoapValues): string {
  const { NewPortListing: listing, ...others } = values;
  if (listing === undefined || listing.includes(']]>')) return elements(values);
  return `${elements(others)}<NewPortListing><![CDATA[${listing}]]></NewPortListing>`;
}

/**
 * Decodes the answer to a call, whatever the HTTP status said: a fault inside a 200 is a fault.
 * Throws MALFORMED where it is neither an answer nor a fault, or HOSTILE from the XML limits.
 */
export function decodeSoapReply(document: string): SoapReply {
  const root = parseXml(document);
  const body = bodyOf(root);
  const content = body === undefined ? root : body.children[0];
  if (content === undefined) {
    // Portable SDK 1.6.22 routers say yes to DeletePortMapping with an empty body. A web page, or an answer
    // that was cut short, has said nothing.
    const empty = root.name.toLowerCase() === 'envelope' && body?.closed === true && body.text === '';
    if (empty) return { kind: 'response', values: {} };
    throw malformed('no answer in its body');
  }
  if (content.name.toLowerCase() === 'fault') return faultOf(content);
  if (/response$/i.test(content.name)) return { kind: 'response', values: valuesOf(content) };
  throw malformed(`<${content.name.slice(0, 40)}> where an answer was due`);
}

/** One row of GetListOfPortMappings, as named values (NewExternalPort, ...). Throws MALFORMED. */
export function decodePortListing(document: string): SoapValues[] {
  const list = parseXml(document);
  return list.children.filter((entry) => entry.name === 'PortMappingEntry').map(valuesOf);
}

export function encodePortListing(entries: readonly SoapValues[]): string {
  const rows = entries.map((entry) => `<p:PortMappingEntry>${prefixed(entry)}</p:PortMappingEntry>`);
  return `<p:PortMappingList xmlns:p="http://www.upnp.org/schemas/gw/WANIPConnection">${rows.join('')}</p:PortMappingList>`;
}

function prefixed(values: SoapValues): string {
  return elements(Object.fromEntries(Object.entries(values).map(([name, value]) => [`p:${name}`, value])));
}

function envelope(content: string): string {
  return (
    `<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="${ENVELOPE}" s:encodingStyle="${ENCODING}">` +
    `<s:Body>${content}</s:Body></s:Envelope>\r\n`
  );
}

function bodyOf(root: XmlElement): XmlElement | undefined {
  return child(root, 'Body');
}

function valuesOf(element: XmlElement): SoapValues {
  return Object.fromEntries(element.children.map((value) => [value.name, value.text]));
}

function faultOf(fault: XmlElement): SoapReply {
  const error = descendant(fault, 'UPnPError');
  const code = error === undefined ? undefined : childText(error, 'errorCode');
  return {
    kind: 'fault',
    // A fault without UPnP's own code is the general "Action Failed" (UDA 2.0, table 3-3).
    errorCode: code !== undefined && /^\d{3}$/.test(code) ? Number(code) : 501,
    errorDescription:
      (error && childText(error, 'errorDescription')) ?? childText(fault, 'faultstring') ?? '',
  };
}

function malformed(what: string): NatwardError {
  return new NatwardError('MALFORMED', `not a SOAP message: ${what}`);
}

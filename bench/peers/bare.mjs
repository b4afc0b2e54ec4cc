/**
 * The requests that map a port, without anything around them: what a mapping costs where the gateway and its
 * protocol are known. One connected socket, one request at a time, no retransmission.
 */

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';

const LIFETIME_SECONDS = 7200;
const TCP = 6;

/** A conversation with port 5351: `ask(packet)` answers with the next datagram that comes back. */
export async function openBare(gateway) {
  const socket = createSocket('udp4');
  socket.connect(5351, gateway);
  await once(socket, 'connect');
  return {
    address: socket.address().address,
    async ask(packet) {
      const answered = once(socket, 'message');
      socket.send(packet);
      const [answer] = await answered;
      return answer;
    },
    close: () => socket.close(),
  };
}

/** RFC 6886, section 3.2: the smallest question that there is. */
export const NATPMP_ADDRESS = Buffer.from([0, 0]);

/** RFC 6887, section 11.1. */
export function pcpMap(client, port) {
  const packet = Buffer.alloc(60);
  packet.set([2, 1]);
  packet.writeUInt32BE(LIFETIME_SECONDS, 4);
  mapped(client).copy(packet, 8);
  randomBytes(12).copy(packet, 24);
  packet[36] = TCP;
  packet.writeUInt16BE(port, 40);
  packet.writeUInt16BE(port, 42);
  mapped('0.0.0.0').copy(packet, 44);
  return packet;
}

/** RFC 6886, section 3.3. */
export function natpmpMap(port) {
  const packet = Buffer.alloc(12);
  packet[1] = 2;
  packet.writeUInt16BE(port, 4);
  packet.writeUInt16BE(port, 6);
  packet.writeUInt32BE(LIFETIME_SECONDS, 8);
  return packet;
}

/** Both protocols keep their result here; NAT-PMP in two bytes, whose first is 0. */
export function checkAnswer(answer) {
  if (answer[3] !== 0) throw new Error(`the gateway refused: result ${answer[3]} of version ${answer[0]}`);
}

/** An IPv4 address in 16 bytes. */
function mapped(address) {
  return Buffer.concat([Buffer.alloc(10), Buffer.from([255, 255, ...address.split('.').map(Number)])]);
}

/** AddPortMapping to a control URL, over a connection of its own. */
export async function addPortMapping({ url, serviceType }, client, port) {
  const body = `<?xml version="1.0"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:AddPortMapping xmlns:u="${serviceType}"><NewRemoteHost></NewRemoteHost><NewExternalPort>${port}</NewExternalPort><NewProtocol>TCP</NewProtocol><NewInternalPort>${port}</NewInternalPort><NewInternalClient>${client}</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>bare</NewPortMappingDescription><NewLeaseDuration>${LIFETIME_SECONDS}</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>`;
  await http(
    'POST',
    url,
    `Content-Type: text/xml; charset="utf-8"\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `SOAPAction: "${serviceType}#AddPortMapping"\r\n`,
    body,
  );
}

/** The control URL in a description. */
export async function controlOf(descriptionUrl) {
  const description = await http('GET', descriptionUrl);
  const [, serviceType, path] =
    /<serviceType>(urn:[^<]*:WANIPConnection:\d)<\/serviceType>.*?<controlURL>([^<]*)</s.exec(description) ??
    [];
  if (path === undefined) throw new Error(`no WANIPConnection in ${descriptionUrl}`);
  return { serviceType, url: new URL(path, descriptionUrl).href };
}

async function http(method, url, headers = '', body = '') {
  const { hostname, port, pathname } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.end(
    `${method} ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: close\r\n${headers}\r\n${body}`,
  );
  let answer = '';
  for await (const chunk of socket.setEncoding('latin1')) answer += chunk;
  if (!answer.startsWith('HTTP/1.1 200')) throw new Error(`the gateway refused: ${answer.slice(0, 200)}`);
  return answer;
}

/** Finds the control URL of a gateway as control points do, and prints it. Arguments: the gateway's address. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const [gateway = ''] = process.argv.slice(2);
const socket = createSocket('udp4');
const answered = once(socket, 'message');
const target = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1';
socket.send(
  `M-SEARCH * HTTP/1.1\r\nHOST: ${gateway}:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ${target}\r\n\r\n`,
  1900,
  gateway,
);
const [answer] = await answered;
socket.close();
const location = /^location: *(\S+)/im.exec(String(answer))?.[1] ?? '';
const description = await (await fetch(location)).text();
const [, type, path = ''] =
  /<serviceType>(urn:[^<]*:WANIPConnection:\d)<\/serviceType>.*?<controlURL>([^<]*)</s.exec(description) ??
  [];
const url = new URL(path, location);
console.log(JSON.stringify({ port: Number(url.port), path: url.pathname, type }));

/** Search, description, AddPortMapping, and no more. Arguments: the gateway, this host's address, the port. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { addPortMapping, controlOf } from './bare.mjs';

const [, , gateway, own, port] = process.argv;
const socket = createSocket('udp4');
const answered = once(socket, 'message');
socket.send(
  `M-SEARCH * HTTP/1.1\r\nHOST: ${gateway}:1900\r\nMAN: "ssdp:discover"\r\n` +
    'ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n',
  1900,
  gateway,
);
const [answer] = await answered;
socket.close();
await addPortMapping(await controlOf(/^location: *(\S+)/im.exec(answer.toString())[1]), own, port);

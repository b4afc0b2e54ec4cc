/** Quirks of what the gateway answers, and of how HTTP carries it. */

import type { Socket } from 'node:net';
import type { NatpmpResponse } from '../../wire/natpmp.ts';
import { NATPMP_RESULT } from '../../wire/natpmp.ts';
import type { Hooks } from '../hooks.ts';
import type { HttpAnswer } from '../http-reply.ts';
import type { Inside } from './inside.ts';
import type { HttpStyle } from './quirks.ts';

export function unknownActionResets(): Hooks {
  return {
    async action(call, next) {
      const reply = await next(call);
      return reply.kind === 'fault' && reply.errorCode === 401 ? { kind: 'reset' } : reply;
    },
  };
}

export function externalAddressReported(address: string): Hooks {
  return { externalAddress: () => address };
}

export function disconnectedYetWorking(): Hooks {
  return {
    async action(call, next) {
      const reply = await next(call);
      if (call.action !== 'GetStatusInfo' || reply.kind !== 'response') return reply;
      return { ...reply, values: { ...reply.values, NewConnectionStatus: 'Disconnected' } };
    },
  };
}

export function natpmpTruncatesPorts(): Hooks {
  return {
    async natpmp(heard, next) {
      const answer = await next(heard);
      if (answer.opcode !== 'map') return answer;
      return {
        ...answer,
        internalPort: answer.internalPort & 0xff,
        externalPort: answer.externalPort & 0xff,
      };
    },
  };
}

export function natpmpNetworkFailure({ site }: Inside): Hooks {
  return {
    async natpmp({ request }): Promise<NatpmpResponse> {
      const failed = { result: NATPMP_RESULT.NETWORK_FAILURE, epochSeconds: site.identity.epochSeconds };
      if (request.opcode === 'address') return { ...failed, opcode: 'address', externalAddress: '0.0.0.0' };
      const { suggestedExternalPort: externalPort, ...asked } = request;
      return { ...failed, ...asked, externalPort };
    },
  };
}

export function httpStyle(style: HttpStyle): Hooks {
  return {
    http: (reply) =>
      reply.kind === 'answer'
        ? { kind: 'raw', write: (socket) => writeInStyle(style, reply, socket) }
        : reply,
  };
}

/** Each of them ends with the connection: after most of them nobody knows where the next answer would begin. */
function writeInStyle(style: HttpStyle, { status, headers, body }: HttpAnswer, socket: Socket): void {
  const bytes = Buffer.from(body);
  const chunked = style === 'chunked';
  const longer = style === 'long-content-length' ? 512 : 0;
  const shorter = style === 'short-content-length' ? bytes.length >> 1 : 0;
  const length = bytes.length + longer - shorter;
  const { 'Content-Type': contentType, ...others } = headers;
  const lines = {
    ...others,
    ...(style === 'no-content-type' || contentType === undefined ? {} : { 'Content-Type': contentType }),
    ...(chunked ? { 'Transfer-Encoding': 'chunked' } : {}),
    // HTTP/1.0 answers end with their connection and need not say how long they are.
    ...(chunked || style === 'http-1.0' ? {} : { 'Content-Length': String(length) }),
    Connection: 'close',
  };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/${style === 'http-1.0' ? '1.0' : '1.1'} ${status} Answer\r\n${head.join('')}\r\n`);
  socket.end(chunked ? inChunks(bytes) : bytes);
}

/** Small chunks, one of them cut anywhere: that is what a reader has to put together. */
function inChunks(bytes: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 100) {
    const chunk = bytes.subarray(at, at + 100);
    parts.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'));
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')]);
}

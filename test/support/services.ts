/**
 * Services that hooks call, on real loopback sockets: an HTTP server that records what it is asked and answers
 * what the test says, and the real machine with the test's clock. Everything ends with the test.
 */

import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { realSystem, type System } from '../../src/system/system.ts';
import type { TestClock } from './test-clock.ts';

export interface Asked {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string;
  /** No answer at all; the connection stays open, or is reset. */
  readonly instead?: 'silence' | 'reset';
}

export interface TestService {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string;
  /** The same with this user and password. */
  withUser(user: string, password: string): string;
  readonly asked: readonly Asked[];
}

/** Answers with what `answer` makes of each request. */
export async function serviceFor(answer: (asked: Asked, count: number) => Answer): Promise<TestService> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url: path = '', headers } = request;
      const one = { method, path, headers, body: Buffer.concat(chunks).toString() };
      asked.push(one);
      const { status = 200, headers: extra = {}, body = '', instead } = answer(one, asked.length);
      if (instead === 'reset') request.socket.resetAndDestroy();
      if (instead !== undefined) return;
      for (const [name, value] of Object.entries(extra)) response.setHeader(name, value);
      response.writeHead(status).end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    withUser: (user, password) =>
      `http://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${port}`,
    asked,
  };
}

/** An address at which nobody listens. */
export async function closedOrigin(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}

/** The real machine with the test's clock, which stands still while a request or a program is on its way. */
export function systemWith(clock: TestClock): System {
  return {
    ...realSystem,
    clock,
    web: (request) => stirring(clock, realSystem.web(request)),
    runProgram: (request) => stirring(clock, realSystem.runProgram(request)),
  };
}

async function stirring<T>(clock: TestClock, work: Promise<T>): Promise<T> {
  clock.stir();
  const timer = setInterval(() => clock.stir(), 1);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    clock.stir();
  }
}

/** Moves the clock from timer to timer until `condition` holds. */
export function settleUntil(clock: TestClock, condition: () => boolean): Promise<void> {
  const holds = async () => {
    while (!condition()) await pause(1);
  };
  return clock.settle(holds());
}

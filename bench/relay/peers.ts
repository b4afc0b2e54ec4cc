/**
 * The relays that come with Debian, each with one process that does the work, no log, and as many descriptors
 * as the system gives.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DESCRIPTORS, MOST_CONVERSATIONS } from './descriptors.ts';
import { ECHO_PORT } from './load.ts';
import { ROUTER, SERVER } from './network.ts';
import { type Forward, lines, type Relay, single } from './programs.ts';

/** A program, and its configuration's text. */
interface Configured extends Pick<Relay, 'name' | 'protocols' | 'many' | 'bulkOnly'> {
  readonly command: readonly string[];
  readonly configuration: (forward: Forward, directory: string) => string;
}

/** Whoever has children is started in a process namespace, which ends with the program that is killed. */
const WITH_CHILDREN = ['unshare', '--pid', '--fork', '--kill-child'];
/** Splicing takes descriptors, too. */
const PIPES = 400;

const UDP_BUFFER = 4 * 1024 * 1024;

function haproxy(globals: string, splice: string): Pick<Configured, 'command' | 'configuration'> {
  return {
    command: ['haproxy', '-db', '-f'],
    configuration: (forward) => `global
  nbthread 1
  maxconn ${forward.ports === 1 ? MOST_CONVERSATIONS + 100 : 1000}
  maxpipes ${PIPES}
${globals}defaults
  mode tcp
${splice}  timeout connect 10s
  timeout client 10m
  timeout server 10m
${lines(
  forward,
  (port) => `listen l${port}
  bind ${ROUTER}:${port}
  server s ${SERVER}:${forward.serverPort}`,
)}
`,
  };
}

function nginx(directives: string): Pick<Configured, 'command' | 'configuration'> {
  return {
    command: [...WITH_CHILDREN, 'nginx', '-c'],
    configuration: (forward, directory) => `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
pid ${directory}/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile ${DESCRIPTORS};
events { worker_connections ${DESCRIPTORS - 100}; }
stream {
${directives}${lines(
  forward,
  (port) => `server {
  listen ${ROUTER}:${port}${forward.protocol === 'udp' ? ` udp rcvbuf=${UDP_BUFFER}` : ' backlog=4096'};
  proxy_pass ${SERVER}:${forward.serverPort};
}`,
)}
}
`,
  };
}

const CONFIGURED: readonly Configured[] = [
  {
    name: 'haproxy',
    protocols: ['tcp'],
    many: ['rules', 'range'],
    ...haproxy('', '  option splice-auto\n'),
  },
  {
    name: 'haproxy-tuned',
    protocols: ['tcp'],
    many: [],
    bulkOnly: true,
    ...haproxy('  tune.pipesize 524288\n', '  option splice-request\n  option splice-response\n'),
  },
  { name: 'nginx', protocols: ['tcp', 'udp'], many: ['rules', 'range'], ...nginx('') },
  {
    name: 'nginx-tuned',
    protocols: ['tcp'],
    many: [],
    bulkOnly: true,
    ...nginx('proxy_buffer_size 64k;\n'),
  },
  {
    name: 'rinetd',
    // Its UDP (0.73) puts an empty datagram in the place of each peer's first, and ends at an empty answer.
    protocols: ['tcp'],
    many: ['rules'],
    command: ['rinetd', '-f', '-c'],
    configuration: (forward, directory) => `pidlogfile ${directory}/rinetd.pid
${lines(forward, (port) => `${ROUTER} ${port} ${SERVER} ${forward.serverPort}`)}
`,
  },
];

function configured({ command, configuration, ...relay }: Configured): Relay {
  const shown = configuration(single('tcp', 7000, ECHO_PORT), 'DIRECTORY');
  return {
    ...relay,
    commandLine: `${command.join(' ')} FILE | ${shown.trim().replace(/\s*\n\s*/g, ' | ')}`,
    async start(network, forward) {
      const file = join(network.directory, `${relay.name}.conf`);
      writeFileSync(file, configuration(forward, network.directory));
      const toldAtMs = performance.now();
      const process = network.start('router', [...command, file]);
      return { host: ROUTER, port: forward.port, process, toldAtMs };
    },
  };
}

function socatCommand({ protocol, port, serverPort }: Forward): string[] {
  const [listen, call, more] =
    protocol === 'tcp'
      ? ['TCP4-LISTEN', 'TCP4', ['backlog=4096', 'nodelay']]
      : ['UDP4-LISTEN', 'UDP4', [`rcvbuf=${UDP_BUFFER}`]];
  return WITH_CHILDREN.concat(
    ['socat', '-b', '65536'],
    [`${listen}:${port}`, `bind=${ROUTER}`, 'fork', 'reuseaddr', ...more].join(','),
    [`${call}:${SERVER}:${serverPort}`, ...more.slice(-1)].join(','),
  );
}

/** A process for every conversation. */
const SOCAT: Relay = {
  name: 'socat',
  protocols: ['tcp', 'udp'],
  many: [],
  commandLine: socatCommand(single('tcp', 7000, ECHO_PORT)).join(' '),
  async start(network, forward) {
    const toldAtMs = performance.now();
    const process = network.start('router', socatCommand(forward));
    return { host: ROUTER, port: forward.port, process, toldAtMs };
  },
};

export const PEERS: readonly Relay[] = [...CONFIGURED.map(configured), SOCAT];

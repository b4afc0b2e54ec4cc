/** nginx with its stream module: the proxy settings are its defaults, the limits are raised as the manual asks. */

import { join } from 'node:path';
import type { Forwarder, ForwardRule, Program } from '../program.ts';
import { startFromFile } from './config-file.ts';

const WORKERS = 2;

export const nginx: Program = {
  name: 'nginx',
  file: '/usr/lib/nginx/modules/ngx_stream_module.so',
  lacks: { 'ICMP errors': 'no relay without raw sockets can send ICMP' },
  setting:
    'default proxy settings (proxy_half_close off, buffers of 16 KiB), 10,000 worker_connections, UDP with reuseport',

  start(rules: readonly ForwardRule[], directory: string): Promise<Forwarder> {
    const file = join(directory, 'nginx.conf');
    return startFromFile(
      {
        command: ['nginx', '-e', 'stderr', '-p', directory, '-c', file],
        file,
        configuration: (rules) => configuration(rules, directory),
        says: { words: 'start worker process ', times: WORKERS },
        signals: { reload: 'SIGHUP', stop: 'SIGTERM', drain: 'SIGQUIT' },
      },
      rules,
    );
  },
};

function configuration(rules: readonly ForwardRule[], directory: string): string {
  const servers = rules.map(({ protocol, listen, target, allow, idleMs, connectTimeoutMs }) =>
    [
      '  server {',
      `    listen ${listen.address}:${listen.port}${protocol === 'udp' ? ' udp reuseport' : ''};`,
      ...(allow === undefined ? [] : [...allow.map((network) => `    allow ${network};`), '    deny all;']),
      ...(idleMs === undefined ? [] : [`    proxy_timeout ${idleMs}ms;`]),
      ...(connectTimeoutMs === undefined ? [] : [`    proxy_connect_timeout ${connectTimeoutMs}ms;`]),
      `    proxy_pass ${target.address}:${target.port};`,
      '  }',
      '',
    ].join('\n'),
  );
  return `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid ${join(directory, 'nginx.pid')};
error_log stderr notice;
worker_processes ${WORKERS};
worker_rlimit_nofile 20000;
events {
  worker_connections 10000;
}
stream {
${servers.join('')}}
`;
}

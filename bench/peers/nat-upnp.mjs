import { promisify } from 'node:util';
import { drive } from './drive.mjs';

await drive(async () => {
  const { default: natUpnp } = await import('nat-upnp');
  return (port) => {
    const client = natUpnp.createClient();
    return promisify(client.portMapping.bind(client))({ public: port, private: port, ttl: 3600 });
  };
});

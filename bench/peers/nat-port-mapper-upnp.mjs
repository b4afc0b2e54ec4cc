import { networkInterfaces } from 'node:os';
import { drive } from './drive.mjs';

await drive(async () => {
  const { upnpNat } = await import('@achingbrain/nat-port-mapper');
  return async (port) => {
    // As its README finds the gateway; the host's own address is left to the caller.
    const own = Object.values(networkInterfaces())
      .flat()
      .find(({ family, internal }) => family === 'IPv4' && !internal);
    for await (const gateway of upnpNat().findGateways({ signal: AbortSignal.timeout(10_000) })) {
      await gateway.map(port, own.address, { externalPort: port, protocol: 'tcp' });
      return;
    }
    throw new Error('findGateways() found none');
  };
});

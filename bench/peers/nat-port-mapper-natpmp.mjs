import { networkInterfaces } from 'node:os';
import { drive } from './drive.mjs';

await drive(async () => {
  const { pmpNat } = await import('@achingbrain/nat-port-mapper');
  const { gateway4sync } = await import('default-gateway');
  return async (port) => {
    // As its README finds the gateway; the host's own address is left to the caller.
    const own = Object.values(networkInterfaces())
      .flat()
      .find(({ family, internal }) => family === 'IPv4' && !internal);
    await pmpNat(gateway4sync().gateway).map(port, own.address, { externalPort: port, protocol: 'tcp' });
  };
});

import { drive } from './drive.mjs';

await drive(async () => {
  const { default: NatAPI } = await import('@silentbot1/nat-api');
  return async (port) => {
    const mapped = await new NatAPI().map({ publicPort: port, privatePort: port, protocol: 'TCP' });
    // Its only word for every failure.
    if (!mapped) throw new Error('map() answered false');
  };
});

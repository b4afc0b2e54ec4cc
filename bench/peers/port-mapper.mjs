import { promisify } from 'node:util';
import { drive } from './drive.mjs';

// A second argument is the one protocol that it shall speak.
const [, , , protocol] = process.argv;

await drive(async () => {
  const { open } = await import('port-mapper');
  return (port) =>
    promisify(open)(port, {
      externalPort: port,
      ...(protocol === undefined ? {} : { protocols: [protocol] }),
    });
});

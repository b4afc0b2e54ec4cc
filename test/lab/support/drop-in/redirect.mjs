/**
 * Loaded with `--import`: gives natward's drop-in to whoever asks for one of the packages that it stands in for, by
 * `require` and by `import`, and says so on standard error. The files of the packages themselves stay as they are.
 */

import Module, { register } from 'node:module';
import { relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { dropInFor } from './stand-ins.mjs';

const resolveFilename = Module._resolveFilename;
Module._resolveFilename = function resolve(request, parent, ...rest) {
  const dropIn = dropInFor(request, parent?.filename);
  if (dropIn === undefined) return resolveFilename.call(this, request, parent, ...rest);
  console.error(`redirected ${request} to ${relative(process.cwd(), dropIn)}`);
  return dropIn;
};

register('./stand-ins.mjs', { parentURL: pathToFileURL(fileURLToPath(import.meta.url)) });

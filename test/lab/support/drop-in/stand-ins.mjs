/** Which request of which file natward's drop-in answers. It is a hook of Node's module loader as well. */

import { writeSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const UPNP = `${ROOT}dist/drop-in/nat-upnp.js`;
const API = `${ROOT}dist/drop-in/nat-api.js`;

const STAND_INS = [
  { request: 'nat-upnp', dropIn: UPNP },
  { request: '..', from: '/node_modules/nat-upnp/test/', dropIn: UPNP },
  // As the README of @silentbot1/nat-api calls it, and as it is called.
  { request: 'nat-api', dropIn: API },
  { request: '@silentbot1/nat-api', dropIn: API },
  { request: '../index.js', from: '/node_modules/@silentbot1/nat-api/tests/', dropIn: API },
];

/** The file of the drop-in; undefined where the request is for something else. */
export function dropInFor(request, parentFile = '') {
  const found = STAND_INS.find(
    ({ request: wanted, from = '' }) => request === wanted && parentFile.replaceAll('\\', '/').includes(from),
  );
  return found?.dropIn;
}

export async function resolve(specifier, context, next) {
  const parent = context.parentURL?.startsWith('file:') ? fileURLToPath(context.parentURL) : '';
  const dropIn = dropInFor(specifier, parent);
  if (dropIn === undefined) return next(specifier, context);
  // This runs beside the main thread, whose console may never hear of it.
  writeSync(2, `redirected ${specifier} to ${relative(ROOT, dropIn)}\n`);
  return { url: pathToFileURL(dropIn).href, shortCircuit: true };
}

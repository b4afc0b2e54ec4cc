/**
 * As much of mocha as the suites of other packages need: `node mocha.cjs FILE` runs the tests that FILE describes, one
 * after the other, and exits with 1 where one fails or there are none. A test fails by what it throws, by what its callback
 * is given, by what its promise rejects with, and by what is thrown while it waits.
 */

const { resolve } = require('node:path');

const LIMIT_MS = 60_000;
const tests = [];
const suites = [{ name: '', before: [], after: [] }];

globalThis.describe = (name, body) => {
  suites.push({ name, before: [], after: [] });
  body();
  suites.pop();
};
globalThis.beforeEach = (hook) => suites.at(-1).before.push(hook);
globalThis.afterEach = (hook) => suites.at(-1).after.push(hook);
globalThis.it = (name, body) => tests.push({ name, body, suites: [...suites] });

let interrupt = (error) => {
  throw error;
};
process.on('uncaughtException', (error) => interrupt(error));
process.on('unhandledRejection', (error) => interrupt(error));

function run(body) {
  return new Promise((done, fail) => {
    interrupt = fail;
    const late = setTimeout(() => fail(new Error(`not done after ${LIMIT_MS} ms`)), LIMIT_MS);
    const end = (error) => {
      clearTimeout(late);
      if (error) fail(error);
      else done();
    };
    if (body.length > 0) body(end);
    else Promise.resolve(body()).then(() => end(), end);
  });
}

async function main() {
  require(resolve(process.argv[2]));
  let failed = 0;
  for (const { name, body, suites: around } of tests) {
    const title = [...around.map((suite) => suite.name), name].filter(Boolean).join(' ');
    try {
      for (const hook of around.flatMap(({ before }) => before)) await run(hook);
      await run(body);
      for (const hook of around.flatMap(({ after }) => after)) await run(hook);
      console.log(`ok ${title}`);
    } catch (error) {
      failed++;
      console.log(`not ok ${title}: ${error?.stack ?? error}`);
    }
  }
  console.log(`${tests.length - failed} passed, ${failed} failed`);
  process.exit(failed > 0 || tests.length === 0 ? 1 : 0);
}

void main();

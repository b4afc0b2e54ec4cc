/**
 * What every driver of an npm peer does: load the package, map the TCP port of the command line, say on one
 * line how it went and how long it took inside the process, and end at once.
 *
 * @param {() => Promise<(port: number) => Promise<unknown>>} load answers the call that maps
 */
export async function drive(load) {
  const startedMs = performance.now();
  const map = await load();
  const loadedMs = performance.now();
  const outcome = await map(Number(process.argv[2])).then(
    () => ({}),
    (error) => ({ message: String(error?.message ?? error) }),
  );
  const callMs = performance.now() - loadedMs;
  console.log(JSON.stringify({ loadMs: loadedMs - startedMs, callMs, ...outcome }));
  process.exit('message' in outcome ? 1 : 0);
}

/** Readers of texts that many rules have in common: what was read of one is one value for all of them, and read once. */

const MAX_KEPT = 1024;

/** What `read` makes of a text is never changed. What it throws is not kept. */
export function readOnce<T extends object>(read: (text: string) => T): (text: string) => T {
  const kept = new Map<string, T>();
  return (text) => {
    const known = kept.get(text);
    if (known !== undefined) return known;
    const value = read(text);
    if (kept.size >= MAX_KEPT) kept.clear();
    kept.set(text, value);
    return value;
  };
}

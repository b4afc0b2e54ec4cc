export async function run(_flags: { json?: true }, _signal: AbortSignal): Promise<void> {}

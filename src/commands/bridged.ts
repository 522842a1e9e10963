import { readFile } from 'node:fs/promises';

/**
 * Tells a file of bridges from a configuration file, as `watch --config` takes both: it is JSON with none of the
 * sections of that.
 * @returns the flags without it, and its path
 */
export async function bridgesApart<F extends { readonly config?: string }>(
  flags: F,
): Promise<{ readonly flags: Omit<F, 'config'> & { readonly config?: string }; readonly bridges?: string }> {
  const { config, ...others } = flags;
  if (config === undefined || !config.endsWith('.json')) return { flags };
  const text = await readFile(config, 'utf8').catch(() => '');
  if (/"(collectors|stores|run|notify|\$schema)"\s*:/.test(text)) return { flags };
  return { flags: others, bridges: config };
}

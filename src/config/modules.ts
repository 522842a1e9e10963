import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Imports modules of the user's own, in TypeScript too; nothing is kept on disk. */
export async function moduleLoader(): Promise<(path: string) => Promise<unknown>> {
  const { createJiti } = await import('jiti');
  const jiti = createJiti(import.meta.url, { fsCache: false, alias: aliases() });
  return (path) => jiti.import(path);
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What a module imports of this package is this very program, wherever the module lies. */
function aliases(): Record<string, string> {
  const { name, exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    readonly name: string;
    readonly exports: Readonly<Record<string, { readonly default: string } | string>>;
  };
  const own = Object.entries(exports).flatMap(([key, target]) =>
    typeof target === 'string' ? [] : [[key.replace('/*', ''), target.default.replace('/*.js', '')] as const],
  );
  return Object.fromEntries(own.map(([key, target]) => [join(name, key), join(ROOT, target)]));
}

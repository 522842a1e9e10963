import { execFile } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The repository's folder. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Compiles `src` into `dist`, which `bin/cyber-collect.js` runs, when it is older or missing. */
export default async function build(): Promise<void> {
  const [sources, built] = await Promise.all([timesOf(join(root, 'src'), '.ts'), timesOf(join(root, 'dist'), '.js')]);
  if (built.length >= sources.length && Math.max(...sources) < Math.max(...built)) return;
  const tsc = join(createRequire(import.meta.url).resolve('typescript/package.json'), '..', 'bin', 'tsc');
  try {
    await promisify(execFile)(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root });
  } catch (cause) {
    throw new Error(`src does not compile: ${(cause as { stdout?: string }).stdout ?? ''}`, { cause });
  }
}

async function timesOf(folder: string, end: string): Promise<readonly number[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter(({ name }) => name.endsWith(end) && !/\.(d|as)\.ts$/.test(name));
  return Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).mtimeMs));
}

import { appendFile, lstat, mkdir, open, readFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { ConfigError, configProblem } from '../errors.ts';

/** A file to be. */
export interface NewFile {
  /** Absolute. */
  readonly path: string;
  readonly text: string;
  /** Nobody else on this machine may read it. */
  readonly secret?: true;
}

/**
 * Refuses to write over what is there.
 * @throws {ConfigError} naming every such file
 */
export async function assertNew(files: readonly NewFile[], mend: string): Promise<void> {
  const found = await Promise.all(files.map(async ({ path }) => ((await exists(path)) ? [path] : [])));
  const problems = found
    .flat()
    .map((path) => configProblem(path, 'it is there already, and is never overwritten', mend));
  if (problems.length > 0) throw new ConfigError(problems);
}

/** Writes files that are not there yet; each path as one would write it from the folder, in order. */
export async function writeNew(files: readonly NewFile[], folder: string): Promise<readonly string[]> {
  for (const { path, text, secret } of files) {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(path, 'wx', secret === true ? 0o600 : 0o644);
    try {
      await file.writeFile(text);
    } finally {
      await file.close();
    }
  }
  return files.map(({ path }) => relative(folder, path));
}

/** Adds text behind a file's end, on a line of its own. */
export async function addTo(path: string, text: string): Promise<void> {
  const before = await readFile(path, 'utf8');
  await appendFile(path, `${before === '' || before.endsWith('\n') ? '' : '\n'}\n${text}`);
}

/** Whether there is anything of that name, be it a link to nowhere. */
export async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

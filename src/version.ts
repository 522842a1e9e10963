import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const ROOT = new URL('../', import.meta.url);
const BUILD = new URL('./build.json', import.meta.url);

/** The version of this package. */
export function version(): string {
  const manifest = readFileSync(new URL('package.json', ROOT), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** The version, and lines that tell one build and machine from another. */
export function build(): string {
  const { commit } = existsSync(BUILD) ? (JSON.parse(readFileSync(BUILD, 'utf8')) as { commit?: string }) : {};
  const { version: node, platform, arch } = process;
  return [version(), `commit ${commit ?? 'unknown'}`, `node ${node}`, `platform ${platform} ${arch}`].join('\n');
}

/**
 * Keeps the commit beside what was built, with a + where files were changed since; part of the build.
 * @param given the commit, where the sources come without their history
 * @public
 */
export async function keepCommit(given = ''): Promise<void> {
  const commit = given === '' && existsSync(new URL('.git', ROOT)) ? await commitOf() : given;
  writeFileSync(BUILD, JSON.stringify(commit === '' ? {} : { commit }));
}

async function commitOf(): Promise<string> {
  const { execFileSync } = await import('node:child_process');
  try {
    const args = ['describe', '--always', '--exclude=*', '--abbrev=40', '--dirty=+'];
    return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return ''; // no git here
  }
}

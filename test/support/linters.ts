import { execFile } from 'node:child_process';
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The folder of a tool and its version in the user's cache, made once. */
async function made(name: string, make: (folder: string) => Promise<unknown>): Promise<string> {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const folder = join(cache, 'cyber-collect', name);
  if ((await stat(join(folder, 'made')).catch(() => undefined)) !== undefined) return folder;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await make(folder);
  await writeFile(join(folder, 'made'), '');
  return folder;
}

/** The programs of a Python package, in an environment of their own. */
export async function fromPython(tool: string, version: string): Promise<string> {
  const folder = await made(`${tool}-${version}`, async (venv) => {
    await run('python3', ['-m', 'venv', venv]);
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `${tool}==${version}`];
    await run(join(venv, 'bin', 'python'), pip, { maxBuffer: 2 ** 26 });
  });
  return join(folder, 'bin');
}

/** A program of a Go module. */
export async function fromGo(module: string, version: string): Promise<string> {
  const tool = module.split('/').at(-1) ?? '';
  const folder = await made(`${tool}-${version}`, (bin) =>
    run('go', ['install', `${module}@v${version}`], { env: { ...process.env, GOBIN: bin, GOFLAGS: '-mod=mod' } }),
  );
  return join(folder, tool);
}

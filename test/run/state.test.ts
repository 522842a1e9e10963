import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lock, openState, type State } from '../../src/run/state.ts';
import { failureOf } from '../support/client.ts';

const HOST = 'machine-a';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-state-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function freshState(): Promise<State> {
  return openState(await mkdtemp(join(folder, 'state-')));
}

/** The id of a process that is over. */
async function deadProcess(): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', 'console.log(process.pid)']);
  return Number(stdout);
}

async function leaveLock(state: State, holder: unknown): Promise<string> {
  const path = join(state.folder, 'locks', 'acme', 'okta.lock');
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, typeof holder === 'string' ? holder : JSON.stringify(holder));
  return path;
}

describe('the state folder', () => {
  it('and what is in it are private', async () => {
    const state = await openState(join(folder, 'deep', 'er'));
    const path = await state.write({ a: 1 }, 'baselines', 'acme', 'x.json');
    for (const one of [state.folder, dirname(path), path]) expect((await stat(one)).mode & 0o077).toBe(0);
  });

  it('gives back what was written, whole or not at all', async () => {
    const state = await freshState();
    expect(await state.read('a', 'b.json')).toBeUndefined();
    await state.write({ n: 1 }, 'a', 'b.json');
    await state.write({ n: 2, text: 'ä' }, 'a', 'b.json');
    expect(await state.read('a', 'b.json')).toEqual({ n: 2, text: 'ä' });
    expect(await readdir(join(state.folder, 'a'))).toEqual(['b.json']);
  });

  it('a file that is broken is named, with what to do', async () => {
    const state = await freshState();
    const path = await state.path('a', 'b.json');
    await writeFile(path, '{"n":');
    const error = await failureOf(state.read('a', 'b.json'));
    expect(error).toMatchObject({ code: 'config', message: expect.stringContaining(path) });
    expect(error.mend).toContain('remove the file');
  });

  it('that cannot be made is a setting to mend', async () => {
    const file = join(folder, 'file');
    await writeFile(file, '');
    const error = await failureOf(openState(join(file, 'state')));
    expect(error).toMatchObject({ code: 'config', mend: expect.stringContaining('CYBER_COLLECT_STATE') });
  });
});

describe('a lock', () => {
  it('is held by one, and let go', async () => {
    const state = await freshState();
    const release = await lock(state, HOST, 'acme', 'okta');
    const error = await failureOf(lock(state, HOST, 'acme', 'okta'));
    expect(error).toMatchObject({
      code: 'locked',
      message: expect.stringContaining(`process ${process.pid} on ${HOST}`),
    });
    await release();
    await (await lock(state, HOST, 'acme', 'okta'))();
  });

  it('keeps nobody from another collector or tenancy', async () => {
    const state = await freshState();
    await lock(state, HOST, 'acme', 'okta');
    await lock(state, HOST, 'acme', 'crowdstrike');
    await lock(state, HOST, 'other', 'okta');
  });

  it('of a process that is over is taken over', async () => {
    const state = await freshState();
    await leaveLock(state, { pid: await deadProcess(), host: HOST, since: 'yesterday' });
    await (await lock(state, HOST, 'acme', 'okta'))();
    expect(await readdir(join(state.folder, 'locks', 'acme'))).toEqual([]);
  });

  it('of a process that is over is taken over by one of many', async () => {
    const pid = await deadProcess();
    for (let round = 0; round < 100; round += 1) {
      const state = await freshState();
      await leaveLock(state, { pid, host: HOST, since: 'yesterday' });
      const ends = await Promise.allSettled(
        Array.from({ length: 12 }, async (_, n) => {
          for (let turns = 0; turns < (n % 6) * 3; turns += 1) await new Promise(setImmediate);
          return lock(state, HOST, 'acme', 'okta');
        }),
      );
      expect(ends.filter(({ status }) => status === 'fulfilled').length).toBe(1);
    }
  });

  it('of another run of this process’s id, before a restart, is taken over', async () => {
    const state = await freshState();
    await leaveLock(state, { pid: process.pid, host: HOST, since: 'yesterday' });
    await lock(state, HOST, 'acme', 'okta');
    expect((await failureOf(lock(state, HOST, 'acme', 'okta'))).code).toBe('locked');
  });

  it.each([
    ['of another machine', { pid: 1, host: 'machine-b', since: 'yesterday' }, 'machine-b'],
    ['of a process that lives', { pid: process.ppid, host: HOST, since: 'yesterday' }, `process ${process.ppid}`],
    ['that is being written', '', 'another run'],
  ])('%s stands, and the error names the file', async (_name, holder, who) => {
    const state = await freshState();
    const path = await leaveLock(state, holder);
    const before = await readFile(path, 'utf8');
    const error = await failureOf(lock(state, HOST, 'acme', 'okta'));
    expect(error).toMatchObject({ code: 'locked', message: expect.stringContaining(who) });
    expect(error.mend).toContain(path);
    expect(await readFile(path, 'utf8')).toBe(before);
  });
});

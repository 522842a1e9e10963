import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileSlots, type Locks, leases } from '../../src/run/lock.ts';
import { openState, type State } from '../../src/run/state.ts';
import { failureOf } from '../support/failure.ts';

const HOST = 'machine-a';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-lock-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function fresh(): Promise<{ readonly state: State; readonly locks: Locks }> {
  const state = await openState(await mkdtemp(join(folder, 'state-')));
  return { state, locks: leases(fileSlots(state), HOST) };
}

/** The id of a process that is over. */
async function deadProcess(): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', 'console.log(process.pid)']);
  return Number(stdout);
}

/** Leaves a lock that was renewed so many seconds ago. */
async function leaveLock(state: State, holder: unknown, age = 0): Promise<string> {
  const path = join(state.folder, 'locks', 'acme', 'okta.lock');
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, typeof holder === 'string' ? holder : JSON.stringify(holder));
  const at = new Date(Date.now() - age * 1000);
  await utimes(path, at, at);
  return path;
}

const SINCE = '2026-01-01T00:00:00Z';

describe('a lock', () => {
  it('is held by one, and let go', async () => {
    const { locks } = await fresh();
    const lock = await locks.take('acme', 'okta');
    await lock.confirm();
    const error = await failureOf(locks.take('acme', 'okta'));
    expect(error).toMatchObject({
      code: 'locked',
      message: expect.stringContaining(`process ${process.pid} on ${HOST}`),
    });
    await lock.release();
    await (await locks.take('acme', 'okta')).release();
  });

  it('keeps nobody from another collector or tenancy', async () => {
    const { locks } = await fresh();
    const all = [locks.take('acme', 'okta'), locks.take('acme', 'crowdstrike'), locks.take('other', 'okta')];
    for (const lock of await Promise.all(all)) await lock.release();
  });

  it('of a process that is over is taken over', async () => {
    const { state, locks } = await fresh();
    await leaveLock(state, { pid: await deadProcess(), host: HOST, since: SINCE, id: 'a' });
    await (await locks.take('acme', 'okta')).release();
    expect(await readdir(join(state.folder, 'locks', 'acme'))).toEqual([]);
  });

  it('of a process that is over is taken over by one of many', async () => {
    const pid = await deadProcess();
    for (let round = 0; round < 100; round += 1) {
      const { state, locks } = await fresh();
      await leaveLock(state, { pid, host: HOST, since: SINCE, id: 'a' });
      const ends = await Promise.allSettled(
        Array.from({ length: 12 }, async (_, n) => {
          for (let turns = 0; turns < (n % 6) * 3; turns += 1) await new Promise(setImmediate);
          return locks.take('acme', 'okta');
        }),
      );
      const won = ends.filter((end) => end.status === 'fulfilled');
      expect(won.length).toBe(1);
      await won[0]?.value.confirm();
      await won[0]?.value.release();
    }
  });

  it('of another run of this process’s id, before a restart, is taken over', async () => {
    const { state, locks } = await fresh();
    await leaveLock(state, { pid: process.pid, host: HOST, since: SINCE, id: 'a' });
    const lock = await locks.take('acme', 'okta');
    expect((await failureOf(locks.take('acme', 'okta'))).code).toBe('locked');
    await lock.release();
  });

  it.each([
    ['of another machine', { pid: 1, host: 'machine-b', since: SINCE, id: 'b' }, 'machine-b'],
    ['of a process that lives', { pid: process.ppid, host: HOST, since: SINCE, id: 'b' }, `process ${process.ppid}`],
    ['that is being written', '', 'another run'],
  ])('%s stands, and the error names the file', async (_name, holder, who) => {
    const { state, locks } = await fresh();
    const path = await leaveLock(state, holder, 30);
    const before = await readFile(path, 'utf8');
    const error = await failureOf(locks.take('acme', 'okta'));
    expect(error).toMatchObject({ code: 'locked', message: expect.stringContaining(who) });
    expect(error.mend).toContain(path);
    expect(await readFile(path, 'utf8')).toBe(before);
  });

  it.each([
    ['of another machine', { pid: 1, host: 'machine-b', since: SINCE, id: 'b' }],
    ['of a process that is frozen', { pid: process.ppid, host: HOST, since: SINCE, id: 'b' }],
    ['that was never written whole', ''],
  ])('%s is taken over once it was not renewed for a minute', async (_name, holder) => {
    const { state, locks } = await fresh();
    await leaveLock(state, holder, 61);
    const lock = await locks.take('acme', 'okta');
    await lock.confirm();
    await lock.release();
  });

  it('that was taken over is noticed before anything is changed, and not let go by the one who lost it', async () => {
    const { state, locks } = await fresh();
    const lost = await locks.take('acme', 'okta');
    const path = await leaveLock(state, { pid: 1, host: 'machine-b', since: SINCE, id: 'b' });
    expect(await failureOf(lost.confirm())).toMatchObject({ code: 'locked', message: expect.stringContaining('okta') });
    await lost.release();
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ id: 'b' });
  });

  it('whose taking over was itself cut short is taken over all the same', async () => {
    const { state, locks } = await fresh();
    const path = await leaveLock(state, { pid: 1, host: 'machine-b', since: SINCE, id: 'b' }, 61);
    await writeFile(`${path}.takeover`, '');
    expect((await failureOf(locks.take('acme', 'okta'))).code).toBe('locked');
    const before = new Date(Date.now() - 11_000);
    await utimes(`${path}.takeover`, before, before);
    await (await locks.take('acme', 'okta')).release();
  });
});

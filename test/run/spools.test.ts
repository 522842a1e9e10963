import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isUnderWay, openRunFolder, openState } from '../../src/run/state.ts';

test('folders of runs that are over are removed, those of runs that may live stay', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-spools-'));
  const gone = Number(execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }));
  const left = [`here+${gone}+a`, `here+${process.pid}+of-a-container-before`, `there+${gone}+frozen`];
  const living = [`here+${process.ppid}+b`, `there+${gone}+c`];
  for (const name of [...left, ...living]) await mkdir(join(folder, 'spool', name), { recursive: true });
  const long = new Date(Date.now() - 61_000);
  await utimes(join(folder, 'spool', `there+${gone}+frozen`), long, long);
  const state = await openState(folder);
  const own = await openRunFolder(state, 'here', 'd');
  expect(own.path).toBe(join(folder, 'spool', `here+${process.pid}+d`));
  expect((await readdir(join(folder, 'spool'))).sort()).toEqual([...living, `here+${process.pid}+d`].sort());
  expect(await Promise.all(['a', 'b', 'c', 'd'].map((run) => isUnderWay(state, run)))).toEqual([
    false,
    true,
    true,
    true,
  ]);
  await own.remove();
  expect(await isUnderWay(state, 'd')).toBe(false);
  await rm(folder, { recursive: true });
});

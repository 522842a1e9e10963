import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openSpools, openState } from '../../src/run/state.ts';

test('spools of runs on this machine that were killed are removed, those of others stay', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-spools-'));
  const gone = Number(execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }));
  const names = [`here+${gone}+a`, `here+${process.pid}+b`, `there+${gone}+c`];
  for (const name of names) await mkdir(join(folder, 'spool', name), { recursive: true });
  const own = await openSpools(await openState(folder), 'here', 'd');
  expect((await readdir(join(folder, 'spool'))).sort()).toEqual([names[1], `here+${process.pid}+d`, names[2]].sort());
  expect(own).toBe(join(folder, 'spool', `here+${process.pid}+d`));
  await rm(folder, { recursive: true });
});

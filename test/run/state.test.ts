import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openState, type State } from '../../src/run/state.ts';
import { failureOf } from '../support/failure.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cyber-collect-state-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function freshState(): Promise<State> {
  return openState(await mkdtemp(join(folder, 'state-')));
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

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { events } from '../../src/report/events.ts';
import { root } from '../support/build.ts';

test('every event is said somewhere, under its name', async () => {
  const source = join(root, 'src');
  const names = (await readdir(source, { recursive: true })).filter((name) => name.endsWith('.ts'));
  const others = names.filter((name) => name !== join('report', 'events.ts'));
  const texts = await Promise.all(others.map((name) => readFile(join(source, name), 'utf8')));
  const all = texts.join('\n');
  const verdicts = /^dataset\.(complete|empty|failed|denied|restored|quarantined)$/;
  expect(all).toMatch(/`dataset\.\$\{verdict\}`/);
  expect(Object.keys(events).filter((name) => !verdicts.test(name) && !all.includes(`'${name}'`))).toEqual([]);
});

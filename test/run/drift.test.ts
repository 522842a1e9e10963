import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Collector, defineCollector } from '../../src/collectors/collector.ts';
import { baseUrl, setting } from '../../src/config/setting.ts';
import { plain } from '../../src/report/colour.ts';
import { printSummary } from '../../src/report/tables.ts';
import { collectOnce, resultOf, stateOf, temporaryFolder } from '../support/run.ts';
import { json, serve } from '../support/server.ts';

const vendor = defineCollector({
  name: 'acme',
  title: 'Acme',
  docs: 'https://acme.example/docs',
  env: { ACME_URL: setting('Base URL') },
  http: ({ ACME_URL }) => ({ baseUrl: baseUrl(ACME_URL) }),
  resources: {
    hosts: { about: 'Hosts', path: '/hosts', id: 'id' },
    groups: { about: 'Groups', path: '/groups', id: 'id' },
  },
});

/** Runs over a vendor whose hosts look like this, run by run. */
async function runsOver(shapes: readonly ((n: number) => object)[], between?: (folder: string) => Promise<unknown>) {
  const folder = await temporaryFolder();
  let shape = shapes[0];
  const server = await serve(({ url }, response) => {
    const group = (n: number) => ({ id: `g${n}` });
    json(
      response,
      Array.from({ length: 40 }, (_, n) => (url.pathname === '/hosts' ? shape?.(n) : group(n))),
    );
  });
  const env = { ACME_URL: server.origin.href };
  const runs = [];
  for (const next of shapes) {
    shape = next;
    runs.push(await collectOnce({ env, folder, collectors: [vendor] as unknown as readonly Collector[] }));
    await between?.(folder);
  }
  return runs;
}

const before = (n: number) => ({ id: `h${n}`, os: 'linux', port: 22 });
const after = (n: number) => ({ id: `h${n}`, port: '22', owner: { name: 'x' } });
const drift = {
  new: ['owner'],
  vanished: ['os'],
  retyped: [{ field: 'port', from: ['number'], to: ['string'] }],
};

test('fields that changed are in the result, the record, the summary and the log, once', async () => {
  const [first, second, third] = await runsOver([before, after, after]);
  expect(first && resultOf(first.summary, 'acme_hosts').drift).toBeUndefined();
  expect(second && resultOf(second.summary, 'acme_hosts')).toMatchObject({ verdict: 'complete', drift });
  expect(second && resultOf(second.summary, 'acme_groups').drift).toBeUndefined();
  expect(third && resultOf(third.summary, 'acme_hosts').drift).toBeUndefined();
  const line = 'Fields changed: acme_hosts: new owner; vanished os; retyped port (number -> string).';
  expect(second && printSummary(second.summary, 'table', plain).split('\n')).toContain(line);
  expect(second?.said.join('\n')).toContain('"event":"dataset.drift"');
  expect(second?.summary.exit_code).toBe(0);
});

test('what is known of the fields being damaged is said, and fails no dataset', async () => {
  const damage = (folder: string) => writeFile(join(stateOf(folder), 'fields', 'default', 'acme_hosts.json'), '{');
  const [, second] = await runsOver([before, before], damage);
  expect(second?.summary.exit_code).toBe(0);
  expect(second?.said.join('\n')).toContain('acme_hosts: its fields were not compared');
});

test('neither values nor keys that are data are kept', async () => {
  const personal = (n: number) => ({ id: `h${n}`, secret: 'hunter2-hunter2', by: { [`p${n}@acme.example`]: 'x' } });
  let kept = '';
  await runsOver([personal], async (folder) => {
    kept = await readFile(join(stateOf(folder), 'fields', 'default', 'acme_hosts.json'), 'utf8');
  });
  expect(Object.keys(JSON.parse(kept).fields).sort()).toEqual(['by', 'by.*', 'id', 'secret']);
  expect(kept).not.toMatch(/hunter2|acme\.example/);
});

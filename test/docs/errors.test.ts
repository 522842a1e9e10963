import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exitCodeOf } from '../../src/commands/fail.ts';
import { CollectError, type ErrorCode } from '../../src/errors.ts';
import { classify } from '../../src/http/retry.ts';
import { wrongIn } from '../../src/report/wrong.ts';
import { worstCode } from '../../src/run/exit.ts';
import type { DatasetResult, RunSummary } from '../../src/run/summary.ts';
import { root } from '../support/build.ts';
import { rowsBelow } from '../support/pages.ts';
import { filesBelow } from '../support/run.ts';

const page = (name: string) => readFile(join(root, 'docs', name), 'utf8');
const source = (path: string) => readFile(join(root, 'src', path), 'utf8');

/** The words of a union of texts, as they stand in the source. */
function wordsOf(text: string, type: string): readonly string[] {
  const body = new RegExp(`type ${type} =\\s([^;]+);`).exec(text.replace(/\/\/.*$/gm, ''))?.[1] ?? '';
  return [...body.matchAll(/'([a-z]+)'/g)].map(([, word]) => word ?? '');
}

test('every code of an error stands in the page with its heading and the exit code it brings', async () => {
  const codes = wordsOf(await source('errors.ts'), 'ErrorCode');
  expect(codes.length).toBeGreaterThan(10);
  const told = codes.map((code) => {
    const error = new CollectError(code as ErrorCode, 'said');
    return [`\`${code}\``, error.title, String(exitCodeOf(error))];
  });
  expect(rowsBelow(await page('errors.md'), 'For authors of rooms')).toEqual(told);
});

test('every heading that the program has is explained, and no other', async () => {
  const files = (await filesBelow(join(root, 'src'))).filter((path) => !/simulator|stores|report\/_?page/.test(path));
  const texts = await Promise.all(files.map(async (path) => [path, await readFile(path, 'utf8')] as const));
  const codes = wordsOf(await source('errors.ts'), 'ErrorCode');
  const usual = codes.map((code) => new CollectError(code as ErrorCode, '').title);
  const constants = new Map(
    texts.flatMap(([, text]) =>
      [...text.matchAll(/const (\w+) = '([A-Z][^']+)';/g)].map(([, a, b]) => [a, b] as const),
    ),
  );
  const own = texts.flatMap(([path, text]) => {
    const lines = text.split('\n');
    // What says how to mend it is an error; other titles are of rooms, pages and schemas.
    const given = lines.flatMap((line, n) => {
      const [, literal, name] = /(?:^ {4,}|[{,] )title: (?:'([^']+)'|([A-Z_]+))/.exec(line) ?? [];
      return /\bmend\b/.test(lines.slice(Math.max(n - 1, 0), n + 2).join()) ? [[line, literal, name] as const] : [];
    });
    const isCaller = /src\/(run|commands)\/|src\/config\/environment/.test(path);
    const last = isCaller ? [...text.matchAll(/'([A-Z][a-z]+(?: [a-z]+)+)',?\s*\)/g)] : [];
    const fallback = [...text.matchAll(/\btitle = '([^']+)'/g)];
    return [
      ...given.map(([, literal, name]) => literal ?? constants.get(name) ?? ''),
      ...[...last, ...fallback].map(([, title]) => title ?? ''),
    ];
  });
  const known = new Set([...usual, ...own].filter((title) => title !== ''));
  for (const title of ['Dataset shrank', 'Not enabled', 'Host not found', 'Unknown name', 'Region not usable'])
    expect(known).toContain(title);
  const text = await page('errors.md');
  const part = text.slice(text.indexOf('## By heading'), text.indexOf('## How answers'));
  const explained = [...part.matchAll(/^### (.+)\n\nCause: .+\n\nMend: .+/gm)].map(([, title]) => title ?? '');
  expect(explained.toSorted()).toEqual([...known].toSorted());
  expect(part.match(/^### /gm)).toHaveLength(explained.length);
});

test('what follows from a status is what the program makes of it', async () => {
  const rows = rowsBelow(await page('errors.md'), 'How answers of vendors are taken');
  const outcomes = rows.map(([outcome = '']) => outcome.replaceAll('`', ''));
  expect(outcomes).toEqual(wordsOf(await source('http/retry.ts'), 'Outcome'));
  const claimed = (status: number) => {
    const fits = (text: string) =>
      text.split(', ').some((word) => word === String(status) || word === `${status}`.replace(/..$/, 'xx'));
    return (rows.find(([, statuses = '']) => fits(statuses)) ?? rows.at(-1))?.[0]?.replaceAll('`', '');
  };
  for (let status = 200; status < 600; status += 1) {
    expect([status, claimed(status)]).toEqual([status, classify(status, '', []).outcome]);
  }
});

test('the exit codes are those that the program knows, and the first of several is the one it takes', async () => {
  const text = await page('exit-codes.md');
  const known = Array.from({ length: 256 }, (_, code) => code).filter((code) => worstCode([code]) === code);
  const told = rowsBelow(text, 'Exit codes').map(([code]) => Number(code));
  expect(told).toEqual(known);
  expect(
    rowsBelow(await readFile(join(root, 'README.md'), 'utf8'), 'Exit codes').flatMap(([code = '']) =>
      code.split(', ').map(Number),
    ),
  ).toEqual(known);
  const order =
    /first of\s+([\d/, ]+) counts/
      .exec(text)?.[1]
      ?.split(/[/,] ?/)
      .map(Number) ?? [];
  expect(order.toSorted((a, b) => a - b)).toEqual(known);
  for (const [n, code] of order.entries())
    for (const later of order.slice(n)) expect(worstCode([later, code])).toBe(code);
});

const SUMMARY: RunSummary = {
  run_id: '8689e311-4a48-4a94-85d5-54c4a1689d70',
  version: '0.0.0',
  tenancy: 'acme',
  started_at: '2026-11-21T05:38:00Z',
  finished_at: '2026-11-21T05:39:00Z',
  exit_code: 3,
  datasets: [],
  stores: [],
  problems: [],
};

test('what notices count is what the page says', async () => {
  const verdicts = wordsOf(await source('run/summary.ts'), 'DatasetVerdict');
  const row = rowsBelow(await page('errors.md'), 'What notices tell of')[0]?.[1] ?? '';
  const wrong = verdicts.filter((verdict) => {
    const dataset = { tag: 'okta_users', verdict, stores: [] } as unknown as DatasetResult;
    return wrongIn({ ...SUMMARY, exit_code: 0, datasets: [dataset] }).some(({ what }) => what === 'okta_users');
  });
  expect([...row.matchAll(/`([a-z]+)`/g)].map(([, verdict]) => verdict).toSorted()).toEqual(wrong.toSorted());
  expect(wrongIn(SUMMARY).map(({ what }) => what)).toEqual(['the run']);
  const stores = [{ store: 'postgres', uploads: 2 }];
  expect(wrongIn({ ...SUMMARY, stores }).map(({ what }) => what)).toEqual(['store postgres']);
});

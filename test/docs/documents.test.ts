import { access, readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import { detectShape } from '../../src/config/detect.ts';
import { managersShape } from '../../src/config/managers.ts';
import { programAliases, programShape } from '../../src/config/program.ts';
import type { Shape } from '../../src/config/setting.ts';
import { discoverCollectors, discoverStores } from '../../src/run/discover.ts';
import { parseTemplate } from '../../src/templating/template.ts';
import { root } from '../support/build.ts';
import { anchorsOf, codeOf, documentation, fencesOf, linksOf, shellCommands } from '../support/pages.ts';

const pages = await documentation();

test('links lead to pages and headings that there are', async () => {
  const anchors = new Map(pages.map(({ path, text }) => [path, anchorsOf(text)]));
  const dead: string[] = [];
  for (const { path, text } of pages) {
    for (const link of linksOf(text).filter((target) => !/^[a-z]+:/.test(target))) {
      const [file = '', anchor] = link.split('#');
      const target = file === '' ? path : normalize(join(dirname(path), file));
      const known = anchors.get(target);
      const isThere = await access(join(root, target)).then(
        () => true,
        () => false,
      );
      if (!isThere || (anchor !== undefined && known?.has(anchor) !== true)) dead.push(`${path}: ${link}`);
    }
  }
  expect(dead).toEqual([]);
});

/** Variables of other programs: of what runs this one, of what it reads or is compared with; and of an invented reader. */
const OTHERS =
  /^(ACME_\w+|SLACK_WEBHOOK_SECURITY|GRAFANA_\w+|GF_\w+|PROMETHEUS_\w+|CYBER_COLLECT_GITHUB_TOKEN|GITHUB_(ACTIONS|STEP_SUMMARY|TOKEN)|CI_PIPELINE_SOURCE|NODE_EXTRA_CA_CERTS|JOB_COMPLETION_INDEX|AWS_BATCH_JOB_ARRAY_INDEX|(NO|FORCE)_COLOR|POSTURE_\w+|TEST_\w+|NAME_FILE|SSL_CERT_\w+|VM_EXPLORE|OKTA_TOKN)$/;

test('variables are those that the program has', async () => {
  const [collectors, stores] = await Promise.all([discoverCollectors(), discoverStores()]);
  const rooms: readonly { env: Shape; aliases?: Readonly<Record<string, string>> }[] = [
    { env: programShape, aliases: programAliases },
    { env: detectShape },
    { env: managersShape },
    ...collectors,
    ...stores,
  ];
  const names = rooms.flatMap(({ env, aliases = {} }) => [...Object.keys(env), ...Object.keys(aliases)]);
  const known = new Set([...names, ...names.map((name) => `${name}_FILE`)]);
  const isKnown = (name: string) =>
    known.has(name) || OTHERS.test(name) || names.some((one) => name.endsWith('_') && one.startsWith(name));
  const strange = pages
    .filter(({ path }) => !/writing-a|architecture|CONTRIBUTING|(collectors|stores)\//.test(path))
    .flatMap(({ path, text }) => {
      const told = [...codeOf(text), ...fencesOf(text).map((fence) => fence.text)].join('\n');
      const found = new Set(told.match(/(?<![\w.%-])[A-Z][A-Z0-9]*_[A-Z0-9_]+(?![a-z])/g) ?? []);
      return [...found].filter((name) => !isKnown(name)).map((name) => `${path}: ${name}`);
    });
  expect(strange).toEqual([]);
});

test('assignments in examples have values that are taken', async () => {
  const shape: Shape = programShape;
  const faults = pages.flatMap(({ path, text }) =>
    fencesOf(text)
      .filter(({ language }) => ['sh', 'bash', 'dotenv'].includes(language))
      .flatMap((fence) => shellCommands(fence.text))
      .flatMap(({ words, env }) => {
        const exported = words[0] === 'export' ? words.slice(1).map((word) => word.split(/=(.*)/s)) : [];
        return [...Object.entries(env), ...exported].flatMap(([name = '', value]) => {
          const type = shape[name];
          return type === undefined || type.safeParse(value).success ? [] : [`${path}: ${name}=${value}`];
        });
      }),
  );
  expect(faults).toEqual([]);
});

test('templates in examples are templates', () => {
  const names = { uuid: '8689e311-4a48-4a94-85d5-54c4a1689d70', tag: 'okta_users', tenancy: 'acme', at: new Date() };
  const told = pages.flatMap(({ path, text }) =>
    [...codeOf(text), ...fencesOf(text).map((fence) => fence.text)]
      .flatMap((code) => [...code.matchAll(/(STORE_\w+|CYBER_COLLECT_\w+)(?:=|: )'?([^\s',`]*%[^\s',`]*)/g)])
      .map(([, name, value]) => ({ path, name, value: (value ?? '').replaceAll('%%', '%') })),
  );
  expect(told.length).toBeGreaterThan(15);
  for (const one of told)
    expect([one, parseTemplate(one.value).render(names)]).toEqual([one, expect.not.stringContaining('%')]);
});

test('the README tells of every collector and store, and counts them right', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  const [collectors, stores] = await Promise.all([discoverCollectors(), discoverStores()]);
  const datasets = collectors.flatMap(({ resources }) => Object.keys(resources));
  const told = (what: string) => new RegExp(`(\\d+) ${what}\\b`).exec(readme)?.[1];
  expect([told('products'), told('datasets'), told('stores')]).toEqual(
    [collectors, datasets, stores].map(({ length }) => String(length)),
  );
  const linked = (folder: string) =>
    linksOf(readme)
      .map((link) => new RegExp(`^docs/${folder}/(\\w+)\\.md$`).exec(link)?.[1])
      .filter((name) => name !== undefined)
      .toSorted();
  expect(linked('collectors')).toEqual(collectors.map(({ name }) => name).toSorted());
  expect(linked('stores')).toEqual(stores.map(({ name }) => name).toSorted());
});

test('the README’s figures are those of the proofs', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  const proofs = await readFile(join(root, 'docs/trust.md'), 'utf8');
  const part = readme.slice(readme.indexOf('## What can be trusted'), readme.indexOf('## Use it'));
  const figuresOf = (text: string): readonly string[] => text.match(/\d[\d,]*\d/g) ?? [];
  const [figures, proven] = [figuresOf(part), figuresOf(proofs)];
  expect(figures.length).toBeGreaterThan(4);
  expect(figures.filter((figure) => !proven.includes(figure))).toEqual([]);
});

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { root } from './support/build.ts';
import { temporaryFolder } from './support/run.ts';

const call = promisify(execFile);

interface Manifest {
  readonly version: string;
  readonly man: readonly string[];
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string } | string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

let manifest: Manifest;
let folder: string;
let tarball: string;
let files: readonly string[];

beforeAll(async () => {
  manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  folder = await temporaryFolder();
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const { stdout } = await call('npm', args, { cwd: root });
  const [packed] = JSON.parse(stdout) as [{ readonly filename: string; readonly files: readonly { path: string }[] }];
  tarball = join(folder, packed.filename);
  files = packed.files.map(({ path }) => path);
}, 120_000);

describe('the tarball', () => {
  test('holds what the manifest names, and what is read on use', () => {
    const named = Object.values(manifest.exports)
      .flatMap((target) => (typeof target === 'string' ? [target] : [target.types, target.default]))
      .filter((target) => !target.includes('*'));
    const needed = [...manifest.man, ...Object.values(manifest.bin), ...named].map((path) => path.replace(/^\.\//, ''));
    const read = ['LICENSE', 'README.md', 'CHANGELOG.md', '.env.example', 'docs/install.md', 'docs/running.md'];
    expect([...needed, ...read].filter((path) => !files.includes(path))).toEqual([]);
  });

  test('holds no tests, sources, workflows or settings of a machine', () => {
    const wrong = files.filter((path) => /^(src|test|node_modules|\.github|\.ci)\/|\.tgz$|\.ts$/.test(path));
    expect(wrong.filter((path) => !path.endsWith('.d.ts'))).toEqual([]);
    expect(files.filter((path) => /(^|\/)\.env($|\.(?!example))/.test(path))).toEqual([]);
  });
});

interface Bill {
  readonly metadata: { readonly component: { readonly name: string; readonly version: string } };
  readonly components: readonly { readonly name: string; readonly version: string; readonly purl: string }[];
}

test('its bill of materials names every dependency, in the locked version, and nothing of development', async () => {
  const lockfile = join(root, 'package-lock.json');
  await call(join(root, '.github', 'sbom.sh'), [tarball, lockfile, folder]);
  const bill = JSON.parse(await readFile(join(folder, 'cyber-collect.cdx.json'), 'utf8')) as Bill;
  const { packages } = JSON.parse(await readFile(lockfile, 'utf8')) as {
    readonly packages: Readonly<Record<string, { readonly version?: string }>>;
  };
  expect(bill.metadata.component).toMatchObject({ name: 'cyber-collect', version: manifest.version });
  const versions = new Set(bill.components.map(({ name, version }) => `${name}@${version}`));
  const locked = Object.keys(manifest.dependencies).map(
    (name) => `${name}@${packages[`node_modules/${name}`]?.version}`,
  );
  expect(locked.filter((one) => !versions.has(one))).toEqual([]);
  for (const name of ['vitest', 'typescript', '@biomejs/biome', 'snowflake-sdk'])
    expect([name, bill.components.some((one) => one.name === name)]).toEqual([name, false]);
  for (const { purl } of bill.components) expect(purl).toMatch(/^pkg:npm\//);
  const spdx = JSON.parse(await readFile(join(folder, 'cyber-collect.spdx.json'), 'utf8')) as { packages: unknown[] };
  expect(spdx.packages).toHaveLength(bill.components.length + 1);
}, 120_000);

// The documentation as a site, dead links and anchors refused: node test/docs/site.mjs [folder]
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const CACHE = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
const VERSION = '1.6.1';

/** The interpreter that has MkDocs, in an environment of its own, made at its first use. */
function mkdocsPython() {
  const venv = join(CACHE, 'cyber-collect', `mkdocs-${VERSION}`);
  const python = join(venv, 'bin', 'python');
  if (existsSync(join(venv, 'made'))) return python;
  must(spawnSync('python3', ['-m', 'venv', venv], { encoding: 'utf8' }), 'no virtual environment can be made');
  const install = ['-m', 'pip', 'install', '-q', `mkdocs==${VERSION}`];
  must(spawnSync(python, install, { encoding: 'utf8' }), 'MkDocs cannot be installed');
  writeFileSync(join(venv, 'made'), '');
  return python;
}

function must({ status, stderr, error }, said) {
  if (status !== 0) throw new Error(`site: ${said}: ${error?.message ?? stderr}`);
}

/** Pages that would make a reader's browser ask another host for a script, style, font or image. */
function foreignIn(folder) {
  const asked = /<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?\/\/|<link\b[^>]*\bhref="(?:https?:)?\/\/[^>]*>/i;
  const pages = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.html'));
  return pages.filter((name) => asked.test(readFileSync(join(folder, name), 'utf8')));
}

const wanted = process.argv[2];
const folder = wanted === undefined ? mkdtempSync(join(tmpdir(), 'cyber-collect-site-')) : resolve(wanted);
try {
  // Not --quiet: with it, --strict finds no warnings to refuse.
  const build = ['-m', 'mkdocs', 'build', '--strict', '--site-dir', folder];
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  const { status } = spawnSync(mkdocsPython(), build, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) throw new Error('site: the pages are not as they should be, see above');
  const foreign = foreignIn(folder);
  if (foreign.length > 0) throw new Error(`site: pages that ask another host: ${foreign.join(', ')}`);
  const pages = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.html'));
  process.stdout.write(`${pages.length} pages${wanted === undefined ? '' : ` in ${folder}`}\n`);
} finally {
  if (wanted === undefined) rmSync(folder, { recursive: true, force: true });
}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from './build.ts';

/** Writes generation after generation of one dataset into a store, until it is killed. */
const WRITER = `
import { createHash, randomUUID } from 'node:crypto';
import { unlinkSync, writeFileSync } from 'node:fs';
const { root, store, env, folder, first } = JSON.parse(process.argv[1]);
const { default: room } = await import(root + '/dist/stores/store_' + store + '.js');
const { environmentOf, resolveShape } = await import(root + '/dist/config/environment.js');
const { values, problems } = resolveShape(environmentOf(env), store, room.env, room.aliases);
if (values === undefined) throw new Error(JSON.stringify(problems));
const sink = await room.open(values, { tenancy: 'acme', at: new Date(), warn() {} });
for (let generation = first; ; generation += 1) {
  const records = 2000 + (generation % 7);
  const text = Array.from({ length: records }, (_, n) => JSON.stringify({ id: n, generation, pad: 'x'.repeat(200) }) + '\\n').join('');
  const path = folder + '/spool-' + randomUUID() + '.ndjson';
  writeFileSync(path, text);
  const spool = { path, bytes: Buffer.byteLength(text), records, sha256: createHash('sha256').update(text).digest('hex') };
  const timestamp = new Date(Date.UTC(2026, 0, 1) + generation * 1000).toISOString().replace('.000Z', 'Z');
  const metadata = { tenancy: 'acme', upload_id: randomUUID(), timestamp, tag: 'okta_killed', records, collector: 'okta',
    resource: 'killed', run_id: randomUUID(), version: '0.0.0', sha256: spool.sha256 };
  process.stdout.write('begin ' + generation + '\\n');
  await sink.write({ tag: 'okta_killed', kind: 'snapshot', id: ['id'], spool, metadata, confirm: async () => undefined });
  process.stdout.write('wrote ' + generation + '\\n');
  unlinkSync(path);
}`;

/** A store whose writer is killed. */
export interface KilledStore {
  readonly store: string;
  readonly env: Readonly<Record<string, string>>;
  /** Where the writer keeps its spools. */
  readonly folder: string;
  /** The records as any reader sees them now; undefined when there is nothing yet. */
  read(): Promise<readonly string[] | undefined>;
  readonly kills: number;
  /** A reader would keep the writer out, so it looks after each kill only. */
  readonly alone?: true;
}

/** What was seen. */
export interface Seen {
  readonly reads: number;
  readonly generations: number;
  /** Readings that were neither the old whole nor the new whole, or older than one before. */
  readonly wrong: readonly string[];
}

/**
 * Kills the writer at random moments, over and over, while a reader looks: at least `kills` times, and until two
 * generations were seen. The first writer ends a write; it tells how long one takes here, so that kills fall within two.
 */
export async function killOverAndOver({ store, env, folder, read, kills, alone }: KilledStore): Promise<Seen> {
  const wrong: string[] = [];
  const generations = new Set<number>();
  let reads = 0;
  let last = 0;
  let written = 0;
  let span = 0;
  const look = async () => {
    const known = written;
    const records = await read();
    reads += 1;
    const generation = generationOf(records ?? []);
    if ((records ?? []).length === 0 && known === 0) return;
    if (generation === undefined) wrong.push(`${records?.length ?? 'no'} records of several generations`);
    else if (records?.length !== 2000 + (generation % 7)) wrong.push(`${records?.length} records of ${generation}`);
    else if (generation < Math.max(last, known)) wrong.push(`${generation} after ${Math.max(last, known)}`);
    else {
      generations.add(generation);
      last = generation;
    }
  };
  for (let kill = 0; kill < kills || (generations.size < 2 && wrong.length === 0); kill += 1) {
    const first = Math.max(last, written) + 1;
    const child = spawn(
      process.execPath,
      ['--input-type=module', '-e', WRITER, JSON.stringify({ root, store, env, folder, first })],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let begun: number | undefined;
    child.stdout.on('data', (chunk: Buffer) => {
      for (const [, what, n] of chunk.toString().matchAll(/(begin|wrote) (\d+)\n/g)) {
        if (what === 'wrote') written = Number(n);
        else begun ??= Date.now();
        if (what === 'wrote' && span === 0 && begun !== undefined) span = 2 * (Date.now() - begun);
      }
    });
    const ended = once(child, 'exit');
    const running = () => child.exitCode === null;
    while (begun === undefined && running()) await sleep(2);
    const until = Date.now() + Math.random() * span;
    while (running() && (span === 0 || Date.now() < until)) {
      if (alone === true) await sleep(5);
      else await look();
    }
    if (!running()) throw new Error(`the writer of ${store} ended by itself with ${child.exitCode}`);
    child.kill('SIGKILL');
    await ended;
    if (written < first) span *= 1.2; // this machine has slowed down
    await look();
  }
  return { reads, generations: generations.size, wrong };
}

/** The one generation that all records are of. */
function generationOf(records: readonly string[]): number | undefined {
  const found = new Set(records.map((record) => (JSON.parse(record) as { generation: number }).generation));
  return found.size === 1 ? [...found][0] : undefined;
}

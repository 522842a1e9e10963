import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, expect, vi } from 'vitest';
import type { Collector } from '../../src/collectors/collector.ts';
import { openSession, type Session } from '../../src/commands/session.ts';
import { environmentOf } from '../../src/config/environment.ts';
import { plain } from '../../src/report/colour.ts';
import { createLog, type Log } from '../../src/report/log.ts';
import { silent } from '../../src/report/progress.ts';
import { activate } from '../../src/run/activate.ts';
import { openCoordination } from '../../src/run/coordination.ts';
import type { DatasetResult, RunSummary } from '../../src/run/summary.ts';
import { runPlan } from '../../src/run/wrapper.ts';

/** What a run in this process is given. */
export interface RunChoice {
  readonly env: Readonly<Record<string, string>>;
  readonly only?: readonly string[];
  readonly exclude?: readonly string[];
  /** Working folder of an earlier run: its state and what it stored. A new one unless told. */
  readonly folder?: string;
  readonly acceptShrink?: readonly string[];
  readonly full?: boolean;
  /** Seconds within which an interrupted run is gone on with. */
  readonly resume?: number;
  /** Seconds. */
  readonly deadline?: number;
  readonly signal?: AbortSignal;
  readonly signalCode?: () => number | undefined;
  /** Collectors to choose from; those of the house unless told. */
  readonly collectors?: readonly Collector[];
}

/** What came of a run in this process. */
export interface RunResult {
  readonly summary: RunSummary;
  readonly folder: string;
  /** Every line of talk as an operator would see it, and as it was before secrets were taken out. */
  readonly said: readonly string[];
  readonly unredacted: readonly string[];
}

const folders: string[] = [];

afterAll(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
});

/** A folder that is removed behind the tests of the file. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-run-'));
  folders.push(folder);
  return folder;
}

/** The state folder of a working folder. */
export function stateOf(folder: string): string {
  return join(folder, 'state');
}

/** A session of this process: nothing of its environment, silent, what is said and printed is kept. */
export async function sessionOf(folder: string, { env, collectors }: Pick<RunChoice, 'env' | 'collectors'>) {
  const variables = {
    STORE_FILE: join(folder, 'data', '%TAG.ndjson'),
    STORE_FILE_EVENTS: join(folder, 'events', '%TAG', '%UUID.ndjson'),
    CYBER_COLLECT_STATE: stateOf(folder),
    ...env,
  };
  const opened = await openSession({ envFile: [], logFormat: 'text', quiet: true }, environmentOf(variables));
  const said: string[] = [];
  const unredacted: string[] = [];
  const printed: string[] = [];
  const style = { format: 'json', least: 'DEBUG', paint: plain } as const;
  const shown = createLog({ ...style, redactor: opened.redactor, write: (line) => said.push(line) });
  const unchanged = { add: () => undefined, redact: (text: string) => text };
  const raw = createLog({ ...style, redactor: unchanged, write: (line) => unredacted.push(line) });
  const log: Log = (...line) => {
    shown(...line);
    raw(...line);
  };
  const print = (text: string) => void printed.push(opened.redactor.redact(text));
  const session: Session = {
    ...opened,
    rooms: { ...opened.rooms, collectors: collectors ?? opened.rooms.collectors },
    log,
    progress: silent,
    print,
  };
  return { session, said, unredacted, printed };
}

/** Plans and carries out one run in this process, into `data/<tag>.ndjson` of its folder unless `STORE_FILE` is set. */
export async function collectOnce(choice: RunChoice): Promise<RunResult> {
  const folder = choice.folder ?? (await temporaryFolder());
  const { session, said, unredacted } = await sessionOf(folder, choice);
  const wanted = { only: choice.only ?? [], exclude: choice.exclude ?? [] };
  const plan = activate(session.environment, session.rooms, wanted, new Date());
  const summary = await runPlan(plan, {
    version: '0.0.0-test',
    ...(await openCoordination(session.environment, plan.program)),
    log: session.log,
    redactor: session.redactor,
    progress: session.progress,
    concurrency: 4,
    deadline: choice.deadline ?? 120,
    acceptShrink: choice.acceptShrink ?? [],
    full: choice.full ?? false,
    resume: choice.resume ?? 3600,
    signal: choice.signal ?? new AbortController().signal,
    signalCode: choice.signalCode ?? (() => undefined),
  });
  return { summary, folder, said, unredacted };
}

/** A run that is stopped once that much has happened, which must be before its end. */
export async function interruptedRun(choice: RunChoice, reached: () => boolean): Promise<RunResult> {
  const stop = new AbortController();
  const run = collectOnce({ ...choice, signal: stop.signal, signalCode: () => 15 });
  await vi.waitFor(() => expect(reached()).toBe(true), { timeout: 20_000, interval: 1 });
  stop.abort();
  const result = await run;
  expect(result.summary.exit_code).not.toBe(0);
  return result;
}

/** The lines of a dataset that was stored; undefined when it was not. */
export async function storedLines(folder: string, tag: string): Promise<readonly string[] | undefined> {
  const text = await readFile(join(folder, 'data', `${tag}.ndjson`), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : text.split('\n').slice(0, -1);
}

/** The lines of a dataset of events, of every run in this folder; undefined when none stored it. */
export async function storedEvents(folder: string, tag: string): Promise<readonly string[] | undefined> {
  const found = await filesBelow(join(folder, 'events', tag)).catch(() => []);
  const files = found.filter((path) => !basename(path).startsWith('.'));
  const texts = await Promise.all(files.map((path) => readFile(path, 'utf8')));
  return files.length === 0 ? undefined : texts.flatMap((text) => text.split('\n').slice(0, -1));
}

/** The result of one dataset of a run. */
export function resultOf(summary: RunSummary, tag: string): DatasetResult {
  const found = summary.datasets.find((dataset) => dataset.tag === tag);
  if (found === undefined) throw new Error(`the run has no ${tag}: ${JSON.stringify(summary)}`);
  return found;
}

/** Every file below a folder, by path. */
export async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

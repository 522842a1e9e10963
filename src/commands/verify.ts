import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { isAbsolute } from 'node:path';
import { at, isObject, type Json, textAt } from '../json.ts';
import { type Head, previousOf, type RunRecord, readRunRecords, sequenceOf } from '../report/audit.ts';
import { type Output, table } from '../report/tables.ts';
import { programOf } from '../run/activate.ts';
import { openCoordination } from '../run/coordination.ts';
import type { State } from '../run/state.ts';
import { openSession, type Session, type SessionFlags } from './session.ts';

/** Flags of `verify`. */
export interface VerifyFlags extends SessionFlags {
  /** Hash of a record that must be in the chain. */
  readonly head?: string;
  readonly output: Output;
}

/** Something that is not as it was recorded. */
export interface Finding {
  /** A record or a stored file. */
  readonly what: string;
  readonly finding: string;
}

/** Holds run records, their chain and the stored files against each other; returns the exit code. */
export async function verify(flags: VerifyFlags, session?: Session): Promise<number> {
  const { environment, print, progress } = session ?? (await openSession(flags));
  progress.stop();
  const program = programOf(environment, []);
  const tenancy = flags.tenancy ?? program.TENANCY;
  const { state, close } = await openCoordination(environment, program);
  try {
    const records = await readRunRecords(state, tenancy);
    const findings = [...(await chainFindings(state, tenancy, records, flags.head)), ...(await fileFindings(records))];
    const head = records.at(-1)?.sha256;
    if (flags.output === 'json') print(JSON.stringify({ tenancy, records: records.length, head, findings }));
    else if (findings.length > 0) {
      const rows = findings.map(({ what, finding }) => [what, finding]);
      print(table(['WHAT', 'FINDING'], rows, flags.output));
    }
    return findings.length > 0 ? 3 : 0;
  } finally {
    close();
  }
}

async function chainFindings(
  state: State,
  tenancy: string,
  records: readonly RunRecord[],
  pinned: string | undefined,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [n, record] of records.entries()) {
    const before = records[n - 1];
    const sequence = sequenceOf(record);
    if (sequence === 0)
      findings.push({ what: record.path, finding: 'is no run record, or says no place in the chain' });
    else if (before !== undefined && sequence !== sequenceOf(before) + 1)
      findings.push({ what: record.path, finding: `follows record ${sequenceOf(before)}, and is record ${sequence}` });
    else if (before !== undefined && previousOf(record) !== before.sha256)
      findings.push({ what: before.path, finding: 'was changed after it was written' });
    if (sequence === 1 && previousOf(record) !== undefined)
      findings.push({ what: record.path, finding: 'is the first record, and names one before' });
  }
  const last = records.at(-1);
  const head = await state.read<Head>('chain', `${tenancy}.json`);
  if (head !== undefined && head.sha256 !== last?.sha256)
    findings.push({
      what: `head, record ${head.sequence}`,
      finding: 'is not the last record: that was changed or removed',
    });
  if (head === undefined && last !== undefined) findings.push({ what: 'head', finding: 'is gone' });
  if (pinned !== undefined && !records.some(({ sha256 }) => sha256 === pinned.toLowerCase()))
    findings.push({ what: pinned, finding: 'is the hash of no record here: records were changed or removed' });
  return findings;
}

/** Every file that a run stored, as the last run that wrote it left it. */
async function fileFindings(records: readonly RunRecord[]): Promise<Finding[]> {
  const expected = new Map<string, string>();
  for (const { content } of records) {
    for (const store of listAt(content, 'datasets').flatMap((dataset) => listAt(dataset, 'stores'))) {
      const [path, sha256] = [textAt(store, 'at'), textAt(store, 'sha256')];
      if (path !== undefined && isAbsolute(path) && sha256 !== undefined) expected.set(path, sha256);
    }
  }
  const findings: Finding[] = [];
  for (const [path, sha256] of expected) {
    const found = await digestOf(path);
    if (found === undefined) findings.push({ what: path, finding: 'is gone' });
    else if (found !== sha256) findings.push({ what: path, finding: 'is not what was stored' });
  }
  return findings;
}

function listAt(value: Json | undefined, path: string): readonly Json[] {
  const found = at(value, path);
  return Array.isArray(found) ? found.filter(isObject) : [];
}

async function digestOf(path: string): Promise<string | undefined> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  } catch {
    return undefined;
  }
  return hash.digest('hex');
}

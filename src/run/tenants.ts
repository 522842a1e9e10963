import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Environment } from '../config/environment.ts';
import { asCollectError, CollectError, ConfigError, configProblem, type Problem } from '../errors.ts';
import { assertSafe } from '../templating/template.ts';

/** A tenant and the file of its variables. */
export interface Tenant {
  readonly tenancy: string;
  readonly file: string;
}

/** The tenancy that a file of variables is of: its name without `.env`. */
export function tenancyOf(file: string): string {
  const name = basename(file).replace(/\.env$/, '');
  assertSafe('the tenancy', name);
  return name;
}

/**
 * The tenants whose files match patterns such as `tenants/*.env`, by name. The files are not read.
 * @throws {ConfigError} where nothing matches, two files are of one tenancy, or a name is not safe
 */
export async function tenantsOf(patterns: readonly string[]): Promise<readonly Tenant[]> {
  const { glob } = await import('tinyglobby');
  const files = await glob([...patterns], { absolute: true, expandDirectories: false });
  const problems: Problem[] = [];
  const tenants = new Map<string, Tenant>();
  for (const file of files.map((found) => resolve(found)).sort()) {
    try {
      const tenancy = tenancyOf(file);
      const other = tenants.get(tenancy);
      if (other !== undefined) {
        const mend = 'name each file after its tenancy, and keep one of each';
        problems.push(configProblem('--tenants', `${other.file} and ${file} are both of tenancy ${tenancy}`, mend));
      }
      tenants.set(tenancy, { tenancy, file });
    } catch (thrown) {
      const { message, mend = 'rename the file' } = asCollectError(thrown);
      problems.push(configProblem(file, message, mend));
    }
  }
  if (files.length === 0) {
    problems.push(configProblem('--tenants', `no file matches ${patterns.join(', ')}`, 'write it as tenants/*.env'));
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return [...tenants.values()];
}

/**
 * Finds a tenant whose file matches patterns. They are gone through again only when the file is not where it was: with
 * 10,000 files that takes a tenth of a second of CPU.
 */
export function tenantFinder(patterns: readonly string[]): (tenancy: string) => Promise<Tenant | undefined> {
  let known = new Map<string, Tenant>();
  return async (tenancy) => {
    const before = known.get(tenancy);
    if (before !== undefined && existsSync(before.file)) return before;
    known = new Map((await tenantsOf(patterns)).map((tenant) => [tenant.tenancy, tenant]));
    return known.get(tenancy);
  };
}

/** One of several equal parts, counted from 0. */
export interface Shard {
  readonly index: number;
  readonly of: number;
}

/** Where Kubernetes Indexed Jobs and AWS Batch arrays say which one a machine is. */
const INDEXES = ['JOB_COMPLETION_INDEX', 'AWS_BATCH_JOB_ARRAY_INDEX'];

/**
 * `3/20`, or `20` on machines that are told their index.
 * @throws {CollectError} config
 */
export function shardFrom(text: string, environment: Environment): Shard {
  const match = /^(?:(\d{1,6})\/)?(\d{1,6})$/.exec(text.trim());
  const told = INDEXES.map((name) => environment.get(name)?.value).find((value) => value !== undefined);
  const [index, of] = [Number(match?.[1] ?? told ?? Number.NaN), Number(match?.[2])];
  if (Number.isInteger(index) && index < of) return { index, of };
  throw new CollectError('config', `--shard '${text}' is no part of a whole`, {
    mend: `write 0/4 to 3/4, or 4 where ${INDEXES.join(' or ')} says which`,
  });
}

/** Whether a tenancy belongs to a shard: each tenancy to one, whichever machine asks. */
export function isOfShard(tenancy: string, { index, of }: Shard): boolean {
  return createHash('sha256').update(tenancy).digest().readUInt32BE() % of === index;
}

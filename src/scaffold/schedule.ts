import { createHash } from 'node:crypto';
import type { Collector } from '../collectors/collector.ts';
import { isRequired, type Shape } from '../config/setting.ts';
import type { NewFile } from './files.ts';
import type { Section } from './variables.ts';

/** What runs on time, and where. */
export interface Job {
  /** Name of units, jobs and files: lower case letters, digits and hyphens. */
  readonly name: string;
  readonly tenancy: string;
  /** The minute of each hour, an odd one. */
  readonly minute: number;
  /** Absolute, of this machine. */
  readonly folder: string;
  /** Absolute, of this machine. */
  readonly envFile: string;
  readonly user: string;
  /** How this machine starts the program. */
  readonly program: readonly string[];
  readonly version: string;
  /** Flags of `run`. */
  readonly flags: readonly string[];
  readonly sections: readonly Section[];
}

/** The files of one kind of schedule, and what remains to be done, a line each. */
export interface Schedule {
  readonly files: readonly NewFile[];
  readonly next: readonly string[];
}

/**
 * The minute of a tenancy's runs: always the same, odd, spread over the hour, so that a vendor does not meet all its
 * customers at once.
 */
export function minuteOf(seed: string): number {
  return (createHash('sha256').update(seed).digest().readUInt32BE() % 30) * 2 + 1;
}

/** A tenancy as a name that Kubernetes, systemd and file systems take. */
export function jobNameOf(tenancy: string): string {
  const slug = tenancy
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 36)
    .replace(/^-+|-+$/g, '');
  return tenancy === 'default' || slug === '' ? 'cyber-collect' : `cyber-collect-${slug}`;
}

/** An hour less what a next run needs to begin. */
const DEADLINE = '50m';

/** Flags of a scheduled run. A collector that requires no variable runs only when it is named, and the others with it. */
export function flagsFor(collectors: readonly Collector[]): readonly string[] {
  const unasked = collectors.some(({ env }) => !Object.values(env as Shape).some(isRequired));
  return [...(unasked ? ['--only', collectors.map(({ name }) => name).join(',')] : []), '--deadline', DEADLINE];
}

/** The hour's minute as cron writes it. */
export function cronOf({ minute }: Job): string {
  return `${minute} * * * *`;
}

/** A text in quotes that YAML, JSON and Python understand alike. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}

/** The program from npm, for machines that are new each time. */
export function npxOf({ version }: Job): string {
  return `npx --yes cyber-collect@${version}`;
}

/** Words for a shell. */
export function shellOf(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
}

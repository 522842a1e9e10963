import { readFile } from 'node:fs/promises';
import { type DetectSettings, detectShape } from '../config/detect.ts';
import { resolveShape } from '../config/environment.ts';
import { programAliases } from '../config/program.ts';
import type { Rule, Search } from '../detect/alerts.ts';
import type { Indicator } from '../detect/indicators.ts';
import { asCollectError, ConfigError, configProblem } from '../errors.ts';
import { problemLine } from '../report/log.ts';
import { table } from '../report/tables.ts';
import type { Plan } from '../run/activate.ts';
import { type Detected, detect as detectIn } from '../run/detect.ts';
import { openOutbox } from '../run/outbox.ts';
import { version } from '../version.ts';
import { deliveryPlan } from './delivery_plan.ts';
import { coordinated } from './interruption.ts';
import { openSecretSession, type Session, type SessionFlags } from './session.ts';

/** Flags of `detect`. */
export interface DetectFlags extends SessionFlags {
  readonly from?: string;
  readonly dataset?: string;
  readonly indicators?: readonly string[];
  readonly allow?: readonly string[];
  readonly rules?: readonly string[];
  readonly counters?: string;
  readonly full?: boolean;
  readonly failOnAlert?: boolean;
  /** Seconds. */
  readonly every: number;
  readonly output: 'table' | 'json' | 'markdown';
}

/** The exit code of `--fail-on-alert`. */
const ALERTS = 9;
/** Lines of a table. */
const MOST_SHOWN = 30;

/** Looks for indicators and rules in stored events, and stores what it finds; returns the exit code. */
export async function detect(flags: DetectFlags, given?: Session): Promise<number> {
  const session = given ?? (await openSecretSession(flags));
  session.progress.stop();
  const settings = settingsOf(session, flags);
  const plan = deliveryPlan(session, { tenancy: flags.tenancy, tag: 'syslog_alerts' });
  const search = await searchFor(session, settings);
  const { sourceOf } = await import('./detect_sources.ts');
  const source = await sourceOf(session, plan, settings);
  const { tenancy, at, stores, program } = plan;
  return coordinated(session, program, 'detect.interrupted', async (held) => {
    const outbox = openOutbox(held.state, tenancy, program.CYBER_COLLECT_OUTBOX_MIB * 2 ** 20);
    const means = { ...held, version: version(), log: session.log, stores, outbox, tenancy, at };
    const rules = { full: flags.full === true, seconds: flags.every };
    const raised = (found: Raised) => notify(session, plan, source.place, found);
    const detected = await detectIn({ source, search, raised, ...rules, ...means });
    if (!source.live && detected.alerts > 0) await raised(detected);
    const code = held.signalCode() ?? codeOf(detected, flags);
    tell(session, detected, flags, code);
    return code;
  });
}

type Raised = Pick<Detected, 'events' | 'alerts' | 'by'>;

/** Tells whoever is configured how many alerts there are, and of what. */
async function notify({ log, redactor }: Session, plan: Plan, source: string, found: Raised): Promise<void> {
  const { program, tenancy } = plan;
  const { SLACK_WEBHOOK_URL, NOTIFY_WEBHOOK_URL, NOTIFY_SMTP_URL } = program;
  if (SLACK_WEBHOOK_URL === undefined && NOTIFY_WEBHOOK_URL === undefined && NOTIFY_SMTP_URL === undefined) return;
  const { openNotify } = await import('../report/notify.ts');
  const { dispatcherOf } = await import('../run/client.ts');
  const dispatcher = dispatcherOf(program);
  const { events, alerts } = found;
  const by = found.by.toSorted((a, b) => b.alerts - a.alerts);
  try {
    const tellAll = await openNotify({ program, redactor, log, dispatcher });
    const at = new Date().toISOString();
    await tellAll({ event: 'alerts.raised', tenancy, version: version(), at, source, events, alerts, by });
  } catch (error) {
    log('WARNING', 'notify.failed', `nobody was told: ${asCollectError(error).message}`);
  } finally {
    await dispatcher.destroy();
  }
}

function codeOf({ problems, stores, alerts }: Detected, { failOnAlert }: DetectFlags): number {
  if (problems.length > 0) return 3;
  if (stores.length > 0) return 6;
  return failOnAlert === true && alerts > 0 ? ALERTS : 0;
}

function tell({ log, print }: Session, detected: Detected, { output }: DetectFlags, code: number): void {
  const { events, alerts, counts, by, problems } = detected;
  for (const problem of problems) log('ERROR', 'detect.problem', problemLine(problem));
  if (output === 'json') {
    print(JSON.stringify({ ...detected, exit_code: code }));
    return;
  }
  const rows = by.slice(0, MOST_SHOWN).map((found) => [found.indicator, found.kind, found.list, String(found.alerts)]);
  const found = rows.length === 0 ? '' : `${table(['INDICATOR', 'KIND', 'LIST', 'ALERTS'], rows, output)}\n\n`;
  const counted = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
  print(`${found}${alerts} alerts in ${events} events${counted.length === 0 ? '' : `; ${counted.join(', ')}`}`);
}

/** Flags before variables. */
function settingsOf({ environment }: Session, flags: DetectFlags): DetectSettings {
  const { values, problems } = resolveShape(environment, 'detect', detectShape, programAliases);
  if (values === undefined) throw new ConfigError(problems);
  const named = {
    DETECT_FROM: flags.from,
    DETECT_DATASET: flags.dataset,
    DETECT_INDICATORS: flags.indicators,
    DETECT_ALLOW: flags.allow,
    DETECT_RULES: flags.rules,
    DETECT_COUNTERS: flags.counters,
  };
  const told = Object.entries(named).filter(([, value]) => value !== undefined);
  return { ...values, ...Object.fromEntries(told) };
}

async function searchFor(session: Session, settings: DetectSettings): Promise<Search> {
  const { matcherOf } = await import('../detect/matcher.ts');
  const { countersOf } = await import('../detect/counters.ts');
  const counters = await countersOf(settings.DETECT_COUNTERS);
  const indicators = await indicatorsIn(session, '--indicators', settings.DETECT_INDICATORS ?? []);
  const allowed = await indicatorsIn(session, '--allow', settings.DETECT_ALLOW ?? []);
  const matcher = await matcherOf(indicators, allowed);
  for (const { list, at } of matcher.slow.slice(0, 10)) {
    session.log('WARNING', 'detect.list', `${list}, ${at}: the expression is slow, as every line is tried with it`);
  }
  const rules = await rulesIn(session, settings.DETECT_RULES ?? []);
  return { matcher, counters, rules };
}

/** The lists that patterns name; what is not understood in them is said. */
async function indicatorsIn(
  { log }: Session,
  flag: string,
  patterns: readonly string[],
): Promise<readonly Indicator[]> {
  if (patterns.length === 0) return [];
  const { loadIndicators } = await import('../detect/indicators.ts');
  const all: Indicator[] = [];
  for (const path of await filesOf(flag, patterns)) {
    const { indicators, problems, refused } = await loadIndicators(path);
    for (const indicator of indicators) all.push(indicator);
    for (const problem of problems) log('WARNING', 'detect.list', problemLine(problem));
    if (refused > problems.length) {
      log('WARNING', 'detect.list', `${path}: ${refused - problems.length} more entries are not understood`);
    }
  }
  return all;
}

/** The rules that patterns name; what is not used of them is said. */
async function rulesIn({ log }: Session, patterns: readonly string[]): Promise<readonly Rule[]> {
  if (patterns.length === 0) return [];
  const { readSigma } = await import('../detect/sigma.ts');
  const all: Rule[] = [];
  for (const path of await filesOf('--rules', patterns)) {
    const { rules, refused } = readSigma(await readFile(path, 'utf8'), path);
    all.push(...rules);
    for (const { file, line, why } of refused) {
      log('WARNING', 'detect.list', `Rule not used: ${file}${line === undefined ? '' : `:${line}`}: ${why}`);
    }
  }
  return all;
}

async function filesOf(flag: string, patterns: readonly string[]): Promise<readonly string[]> {
  const { logsOf } = await import('../collectors/_syslog_files.ts');
  const found: string[] = [];
  for (const pattern of patterns) {
    const paths = await logsOf([pattern], []);
    if (paths.length === 0) throw new ConfigError([configProblem(flag, `no file matches ${pattern}`, 'correct it')]);
    found.push(...paths);
  }
  return [...new Set(found)];
}

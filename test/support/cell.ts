import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Collector, isCustom, parentOf, tagOf } from '../../src/collectors/collector.ts';
import { discoverCollectors } from '../../src/run/discover.ts';
import { applies, type Fault, type FaultName, faultNames } from '../../src/simulator/faults.ts';
import type { Route } from '../../src/simulator/paging.ts';
import {
  type RunningVendor,
  startVendor,
  type Vendor,
  type VendorOptions,
  vendors,
} from '../../src/simulator/vendor.ts';
import { formsOf } from './forms.ts';
import {
  collectOnce,
  filesBelow,
  type RunResult,
  resultOf,
  storedEvents,
  storedLines,
  temporaryFolder,
} from './run.ts';

/** One fault on one route of one dataset. */
export interface Cell {
  readonly vendor: Vendor;
  readonly collector: Collector;
  readonly resource: string;
  readonly route: Route;
  readonly fault: FaultName;
  readonly size: Size;
}

/** How large a vendor is run, so that every list of the dataset has three pages. */
type Size = Required<Pick<VendorOptions, 'scale' | 'pageSize'>>;

/** How a cell ended. The last two are never right. */
export type Outcome = 'complete' | 'failed' | 'denied' | 'quarantined' | 'undetectable' | 'SILENT LOSS' | 'NOT REACHED';

/** What a cell showed. */
export interface CellResult {
  readonly outcome: Outcome;
  /** Everything that is not as it must be. */
  readonly wrong: readonly string[];
  /** Why the loss may be silent, if it was, and what became of it after a clean run. */
  readonly because?: string;
  readonly guard?: string;
  readonly reason?: string;
}

/** Losses that the vendor's answers cannot reveal. */
export interface Blindness {
  /** Matched against `<vendor>.<resource> <METHOD> <path>`. */
  readonly where: RegExp;
  readonly faults: readonly FaultName[];
  readonly because: string;
}

/** Every loss that may be silent, and why. Anything else that is silent fails. */
export const BLIND: readonly Blindness[] = [
  {
    where: /^okta\./,
    faults: ['dropped-page', 'short-page', 'empty-list'],
    because: 'Okta declares no totals',
  },
  {
    where: /^okta\.\w+ GET .*\{id\}/,
    faults: ['404'],
    because: 'a parent may be deleted after it was listed, and Okta says so with 404',
  },
  {
    where: /^crowdstrike\.\w+ GET .*\/(queries|combined)\//,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^sentinelone\./,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^tenableio\.\w+ GET .*\/status$/,
    faults: ['empty-list'],
    because: 'an export that ends without a chunk is an empty one',
  },
  {
    where: /^tenableio\.assets GET .*\/status$/,
    faults: ['dropped-page'],
    because: 'the status of an export of assets does not say how many chunks there are',
  },
  {
    where: /^tenableio\.\w+ GET .*\/chunks\//,
    faults: ['short-page'],
    because: 'nothing says how many records a chunk holds',
  },
  {
    where: /^kandji\.(devices|device_parameters|device_library_items) GET /,
    faults: ['empty-list', 'short-page'],
    because: 'Kandji declares no total of what hangs on a device, nor of devices',
  },
  {
    where: /^kandji\.device_\w+ GET /,
    faults: ['404'],
    because: 'a device may be deleted after it was listed, and Kandji says so with 404',
  },
  {
    where: /^kandji\.(blueprints|vulnerabilities) GET /,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^cloudflare\.(?!accounts)/,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well, and what has one page declares none',
  },
  {
    where: /^cloudflare\.\w+ GET .*\{id\}/,
    faults: ['404'],
    because: 'a zone or account may be deleted after it was listed, and Cloudflare says so with 404',
  },
  {
    where: /^snyk\./,
    faults: ['empty-list', 'dropped-page', 'short-page'],
    because: 'Snyk declares no totals, but for targets, where the one that is declared is 0 as well',
  },
  {
    where: /^knowbe4\./,
    faults: ['empty-list', 'dropped-page', 'short-page'],
    because: 'KnowBe4 declares no totals',
  },
  {
    where: /^knowbe4\.pst_recipients /,
    faults: ['404'],
    because: 'a test may be deleted after it was listed, and KnowBe4 says so with 404',
  },
  {
    where: /^snyk\.(members|aggregated_issues) /,
    faults: ['404'],
    because: 'an organization or project may be deleted after it was listed, and Snyk says so with 404',
  },
  {
    where: /^google_workspace\./,
    faults: ['empty-list', 'dropped-page', 'short-page'],
    because: 'Google declares no totals',
  },
  {
    where: /^google_workspace\.group_members GET .*\{id\}/,
    faults: ['404'],
    because: 'a group may be deleted after it was listed, and Google says so with 404',
  },
  {
    where: /^wiz\./,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^servicenow\./,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^qualys\./,
    faults: ['empty-list', 'short-page'],
    because: 'Qualys declares no totals',
  },
  {
    where: /^github\./,
    faults: ['empty-list', 'dropped-page', 'short-page'],
    because: 'GitHub declares no totals in its lists',
  },
  {
    where: /^github\.branch_protection_rules /,
    faults: ['404'],
    because: 'a plan without rulesets says so with 404',
  },
  {
    where: /^duo\./,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^(microsoft365|intune|azure_entra)\.users /,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^(microsoft365|intune|azure_entra)\.(?!users |\w+_detail )/,
    faults: ['empty-list', 'dropped-page', 'short-page'],
    because: 'Graph declares a total of directory objects only',
  },
  {
    where: /^intune\.attack_simulation_users /,
    faults: ['404'],
    because: 'a simulation may be removed after it was listed, and Graph says so with 404',
  },
  {
    where: /^defender_for_cloud\./,
    faults: ['empty-list', 'dropped-page', 'short-page'],
    because: 'Azure Resource Manager declares no totals',
  },
  {
    where: /^mde\./,
    faults: ['404', 'empty-list', 'dropped-page', 'short-page'],
    because: 'Defender for Endpoint declares no totals, and says with 404 that there are no rows',
  },
  {
    where: /^splunk\./,
    faults: ['empty-list'],
    because: 'the stream of a search declares no total',
  },
  {
    where: /^slack\.(?!channels )/,
    faults: ['empty-list', 'dropped-page', 'short-page'],
    because: 'Slack declares a total of channels only',
  },
  {
    where: /^slack\.channels /,
    faults: ['empty-list'],
    because: 'the total that is declared is 0 as well',
  },
  {
    where: /^azure_monitor\./,
    faults: ['empty-list'],
    because: 'the answer to a query declares no total',
  },
];

/** Faults that pass: nothing may be lost to them. */
const PASSING: ReadonlySet<FaultName> = new Set([
  '429',
  '429-bare',
  '500',
  '503',
  'reset',
  'truncated',
  'slow',
  'expired-token',
  'empty-page',
  'html',
  'expired-cursor',
  'chunk-404',
]);

/** Faults that lead to another host. */
const FOREIGN: ReadonlySet<FaultName> = new Set(['foreign-next', 'redirect-foreign']);

/** Faults that stay, so that no run can get the data. */
const HOPELESS: ReadonlySet<FaultName> = new Set([
  '429-forever',
  '401-forever',
  '403',
  'html-forever',
  'error-200',
  'same-page',
]);

const ENOUGH = 30;
const OLD = '{"old":"copy"}\n';

/** The name of a cell. */
export function nameOf({ vendor, resource, route, fault }: Cell): string {
  return `${placeOf(vendor, resource, route)} ${fault}`;
}

function placeOf(vendor: Vendor, resource: string, route: Route): string {
  return `${vendor.name}.${resource} ${route.method ?? 'GET'} ${route.path}`;
}

/** Every cell of the datasets wanted, over the collectors that have a simulated vendor. */
export async function cellsOf(
  wanted: (dataset: string) => boolean,
  not: readonly FaultName[] = [],
): Promise<readonly Cell[]> {
  const collectors = await discoverCollectors();
  const cells: Cell[] = [];
  for (const vendor of await vendors()) {
    const collector = collectors.find(({ name }) => name === vendor.name);
    if (collector === undefined) continue;
    for (const resource of Object.keys(collector.resources)) {
      if (!wanted(`${vendor.name}.${resource}`)) continue;
      const size = await sizeOf(vendor, collector, resource);
      for (const route of vendor.routes.filter((one) => one.resource === resource)) {
        const faults = faultNames.filter((name) => !not.includes(name) && applies({ name }, route));
        cells.push(...faults.map((fault) => ({ vendor, collector, resource, route, fault, size })));
      }
    }
  }
  return cells;
}

/** A child has a request for each parent, so its lists are shorter. */
async function sizeOf(vendor: Vendor, collector: Collector, resource: string): Promise<Size> {
  const definition = collector.resources[resource];
  const child = definition !== undefined && parentOf(definition) !== undefined;
  for (let scale = child ? 60 : 150; ; scale *= 2) {
    const running = await startVendor(vendor, { scale });
    const records = running.truth(resource).length;
    await running.close();
    if (records >= ENOUGH || scale > 10_000) return { scale, pageSize: Math.ceil(Math.min(records, scale) / 3) };
  }
}

/** Runs one cell: the dataset alone, with the fault on the one route, over an old copy. */
export async function runCell(cell: Cell): Promise<CellResult> {
  const { vendor, fault: name, resource, route, size } = cell;
  const fault: Fault = { name, resource, path: route.path };
  const folder = await temporaryFolder();
  const old = join(folder, 'data', `${tagOf(vendor.name, resource)}.ndjson`);
  await mkdir(join(folder, 'data'), { recursive: true });
  await writeFile(old, OLD);
  const elsewhere = await startElsewhere();
  const running = await startVendor(vendor, { ...size, faults: [fault] });
  const wrong: string[] = [];
  try {
    const result = await runDataset(cell, running, folder, FOREIGN.has(name) ? elsewhere.env : {});
    const { exit_code } = result.summary;
    const kept = isEvents(cell)
      ? (await storedEvents(folder, tagOf(vendor.name, resource))) === undefined
      : (await readFile(old, 'utf8').catch(() => undefined)) === OLD;
    const equal = !kept && (await isTruth(cell, running, folder));
    wrong.push(...(await leaks(result, running)), ...elsewhere.reached().map((url) => `a request reached ${url}`));
    if (running.unexpected.length > 0) wrong.push(`unexpected requests: ${running.unexpected.join(', ')}`);
    const judged = outcomeOf(cell, result, {
      struck: running.requests.some((seen) => seen.fault === name),
      kept,
      equal,
    });
    if (exit_code !== 0 && !kept) wrong.push(`exit ${exit_code}, but the old copy is gone`);
    wrong.push(...expectations(cell, judged, result));
    // Of events each run has another number: no guard holds them against the last one.
    if (judged.outcome !== 'undetectable' || isEvents(cell)) return { ...judged, wrong };
    const { guard, ...after } = await guarded(cell, fault);
    return { ...judged, guard, wrong: [...wrong, ...after.wrong] };
  } finally {
    await running.close();
    await elsewhere.close();
  }
}

function runDataset(
  cell: Cell,
  running: RunningVendor,
  folder: string,
  env: Readonly<Record<string, string>> = {},
): Promise<RunResult> {
  return collectOnce({
    env: { ...running.env, ...env },
    only: [`${cell.vendor.name}.${cell.resource}`],
    folder,
    // Long enough for every passing wait, and for a lasting one to be given up soon.
    deadline: cell.fault === '429-forever' ? 12 : 120,
  });
}

interface Facts {
  readonly struck: boolean;
  readonly kept: boolean;
  readonly equal: boolean;
}

function outcomeOf(cell: Cell, { summary }: RunResult, { struck, kept, equal }: Facts): Omit<CellResult, 'wrong'> {
  const dataset = summary.datasets[0];
  const reason = dataset?.reason === undefined ? {} : { reason: dataset.reason };
  if (!struck) return { outcome: 'NOT REACHED', ...reason };
  if (summary.exit_code === 0) {
    if (equal) return { outcome: 'complete', ...reason };
    const blind = blindnessOf(cell);
    return blind === undefined || (kept && !isEvents(cell))
      ? { outcome: 'SILENT LOSS', ...reason }
      : { outcome: 'undetectable', because: blind.because, ...reason };
  }
  const { verdict } = dataset ?? {};
  const told = verdict === 'denied' || verdict === 'failed' || verdict === 'quarantined';
  return { outcome: told && kept ? verdict : 'SILENT LOSS', ...reason };
}

/** The entry that lets a cell's loss be silent. */
export function blindnessOf({ vendor, resource, route, fault }: Cell): Blindness | undefined {
  return BLIND.find(({ where, faults }) => where.test(placeOf(vendor, resource, route)) && faults.includes(fault));
}

function expectations(
  { fault, collector, resource }: Cell,
  { outcome, reason }: Omit<CellResult, 'wrong'>,
  { summary }: RunResult,
): string[] {
  const wrong: string[] = [];
  const tell = `(exit ${summary.exit_code}, ${outcome}: ${reason ?? 'no reason'})`;
  if (outcome === 'SILENT LOSS' || outcome === 'NOT REACHED') wrong.push(`${outcome} ${tell}`);
  // A vendor that blocks for minutes is waited for, but not here.
  const toldLong = fault === '429-bare' && reason?.includes('past the deadline') === true;
  if (PASSING.has(fault) && outcome !== 'complete' && !toldLong)
    wrong.push(`a passing fault must end complete ${tell}`);
  if (FOREIGN.has(fault) || HOPELESS.has(fault)) {
    if (outcome !== 'failed' && outcome !== 'denied') wrong.push(`a lasting fault must be told ${tell}`);
  }
  if (FOREIGN.has(fault)) {
    const { title, reason: said = '' } = resultOf(summary, tagOf(collector.name, resource));
    if (title !== 'Refused for safety' || !said.includes('attacker.invalid'))
      wrong.push(`the foreign host is not refused ${tell}`);
  }
  if (fault === '401-forever' && summary.exit_code !== 4) wrong.push(`refused credentials must exit 4 ${tell}`);
  return wrong;
}

/** The same fault after a clean run: a loss that is large enough has to be held back. */
async function guarded(
  cell: Cell,
  fault: Fault,
): Promise<{ readonly guard: string; readonly wrong: readonly string[] }> {
  const folder = await temporaryFolder();
  const clean = await startVendor(cell.vendor, cell.size);
  const faulty = await startVendor(cell.vendor, { ...cell.size, faults: [fault] });
  try {
    const before = await runDataset(cell, clean, folder);
    const { summary } = await runDataset(cell, faulty, folder);
    const [one] = summary.datasets;
    const records = clean.truth(cell.resource).length;
    const lost = records - (one?.records ?? 0);
    const large = lost >= 5 && lost * 5 >= records;
    const guard = `${lost} of ${records} records lost after a clean run: ${one?.verdict}, exit ${summary.exit_code}`;
    const kept = await isTruth(cell, clean, folder);
    const held = one?.verdict === 'quarantined' && summary.exit_code === 3 && kept;
    return { guard, wrong: before.summary.exit_code === 0 && large === held ? [] : [guard] };
  } finally {
    await Promise.all([clean.close(), faulty.close()]);
  }
}

/** Whether what is stored is the vendor's records, each as often as there, byte for byte. */
async function isTruth(cell: Cell, running: RunningVendor, folder: string): Promise<boolean> {
  const { collector, resource } = cell;
  const read = isEvents(cell) ? storedEvents : storedLines;
  const lines = await read(folder, tagOf(collector.name, resource));
  if (lines === undefined) return false;
  const added = addedFields(collector, resource);
  const stored = lines.map((line) => withoutFields(line, added)).sort();
  const truth = running.truth(resource).sort();
  return stored.length === truth.length && stored.every((line, index) => line === truth[index]);
}

function isEvents({ collector, resource }: Cell): boolean {
  return collector.resources[resource]?.kind === 'events';
}

/** Names of the fields that the collector adds. */
function addedFields(collector: Collector, resource: string): readonly string[] {
  const definition = collector.resources[resource];
  if (definition === undefined) return [];
  if (isCustom(definition)) return Object.keys(definition.adds ?? {});
  return 'keep' in definition ? Object.keys(definition.keep ?? {}) : [];
}

/** A line without what was spliced in at its end. */
function withoutFields(line: string, added: readonly string[]): string {
  let text = line;
  for (const name of [...added].reverse()) {
    const at = text.lastIndexOf(`,"${name}":`);
    if (at < 0) continue;
    const names = Object.keys(JSON.parse(`{${text.slice(at + 1)}`) as object);
    if (names.length === 1) text = `${text.slice(0, at)}}`;
  }
  return text;
}

/** Where the vendor's credentials can be read in any form: talk, summary, state folder. */
async function leaks({ summary, said, unredacted, folder }: RunResult, running: RunningVendor): Promise<string[]> {
  const forms = Object.values(running.env)
    .filter((value) => value.includes('canary'))
    .flatMap(formsOf);
  const files = (await filesBelow(folder)).filter((path) => !path.startsWith(join(folder, 'data')));
  const texts = new Map([
    ['the log', said.join('\n')],
    ['the log before redaction', unredacted.join('\n')],
    ['the summary', JSON.stringify(summary)],
  ]);
  for (const path of files) texts.set(path, await readFile(path, 'latin1'));
  return [...texts]
    .filter(([, text]) => forms.some((form) => text.includes(form)))
    .map(([where]) => `a credential stands in ${where}`);
}

/** A proxy that every host but the vendor's is reached through, so that a request to a foreign one is seen. */
export async function startElsewhere() {
  const reached: string[] = [];
  const server = createServer((request, response) => {
    reached.push(request.url ?? '');
    response.end('[]');
  });
  server.on('connect', (request, socket) => {
    reached.push(request.url ?? '');
    socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    env: { HTTP_PROXY: url, HTTPS_PROXY: url, NO_PROXY: '127.0.0.1,localhost' },
    reached: () => reached,
    close: () => new Promise<void>((closed) => void server.close(() => closed()).closeAllConnections()),
  };
}

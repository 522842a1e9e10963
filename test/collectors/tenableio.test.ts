import { mkdir, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type ExportJob, exportPages } from '../../src/http/exportjob.ts';
import type { Fault } from '../../src/simulator/faults.ts';
import { type RunningVendor, startVendor, type Vendor, type VendorOptions } from '../../src/simulator/vendor.ts';
import vendor from '../../src/simulator/vendor_tenableio.ts';
import { openClient, textOf } from '../support/client.ts';
import { collectOnce, type RunResult, resultOf, storedLines, temporaryFolder } from '../support/run.ts';
import { json, type Received, type ScriptedServer, serve } from '../support/server.ts';

const PATHS = {
  assets: '/assets/export',
  vulnerabilities: '/vulns/export',
  findings: '/compliance/export',
  was: '/was/v1/export/vulns',
} as const;
const OLD = '{"id":"of the last good upload"}\n';
const ALL = Object.keys(PATHS) as (keyof typeof PATHS)[];

async function start(options: VendorOptions = {}, of: Vendor = vendor): Promise<RunningVendor> {
  const running = await startVendor(of, options);
  onTestFinished(() => running.close());
  return running;
}

function collect(env: Readonly<Record<string, string>>, only: readonly string[] = ALL, folder?: string) {
  const named = only.map((resource) => `tenableio.${resource}`);
  return collectOnce({ env, only: named, ...(folder === undefined ? {} : { folder }) });
}

/** The records as a set: chunks come in the order they become available. */
async function expectTruth({ folder }: RunResult, running: RunningVendor, resource: string): Promise<void> {
  const stored = await storedLines(folder, `tenableio_${resource}`);
  expect(stored?.toSorted()).toEqual(running.truth(resource).toSorted());
}

function chunksOf(running: RunningVendor): string[] {
  return running.requests.flatMap(({ path }) => /\/chunks\/(\d+)$/.exec(path)?.[1] ?? []);
}

describe('every export', () => {
  test('is stored byte for byte, though its chunks come out of order, some holding nothing', async () => {
    const running = await start({ scale: 450, pageSize: 100, gzip: true });
    const result = await collect(running.env);
    expect(result.summary.exit_code).toBe(0);
    for (const resource of ALL) {
      const { verdict, records } = resultOf(result.summary, `tenableio_${resource}`);
      expect({ verdict, records }).toEqual({ verdict: 'complete', records: running.truth(resource).length });
      await expectTruth(result, running, resource);
    }
    const order = chunksOf(running).map(Number);
    expect(order).not.toEqual(order.toSorted((one, other) => one - other));
    expect(running.unexpected).toEqual([]);
  });

  test('is asked for so that nothing is left out by default', async () => {
    const server = await serve(emptyExport);
    const { summary } = await collect(keysFor(server));
    expect(summary.datasets.map(({ verdict }) => verdict)).toEqual(['empty', 'empty', 'empty', 'empty']);
    expect(Object.fromEntries(bodies(server))).toEqual({
      '/assets/export': { chunk_size: 1000, filters: {} },
      '/vulns/export': {
        num_assets: 500,
        include_unlicensed: true,
        filters: { state: ['OPEN', 'REOPENED'], last_found: 946684800 },
      },
      '/compliance/export': { num_findings: 5000, filters: {} },
      '/was/v1/export/vulns': {
        num_assets: 500,
        include_unlicensed: true,
        filters: { state: ['OPEN', 'REOPENED'], since: 946684800 },
      },
    });
    expect(server.received[0]?.headers['x-apikeys']).toBe('accessKey=canary-access;secretKey=canary-secret');
  });

  test('that is forbidden is denied: by the role it needs, or as not licensed', async () => {
    const faults: Fault[] = [
      { name: '403', resource: 'assets' },
      { name: '403', resource: 'was' },
    ];
    const { summary } = await collect((await start({ scale: 20, faults })).env, ['assets', 'was']);
    expect(resultOf(summary, 'tenableio_assets').mend).toMatch(/^give the credentials the permission Basic \[16\]/);
    expect(resultOf(summary, 'tenableio_was')).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
    expect(summary.exit_code).toBe(3);
  });
});

/** What a fault is told by; without a reason the run has to get over it. */
interface Case {
  readonly what: string;
  readonly resource: keyof typeof PATHS;
  readonly fault: Fault;
  readonly reason?: RegExp;
}

const CHUNK = '/assets/export/{job}/chunks/{chunk}';
const CASES: readonly Case[] = [
  { what: 'a chunk is not there yet', resource: 'assets', fault: { name: 'chunk-404', times: 3 } },
  { what: 'it vanishes under way', resource: 'assets', fault: { name: 'expired-cursor' } },
  { what: 'a chunk fails once', resource: 'assets', fault: { name: 'chunk-failed' } },
  { what: 'it ends in an error once', resource: 'was', fault: { name: 'job-error' } },
  { what: 'a limit is told in HTML', resource: 'findings', fault: { name: '429' } },
  {
    what: 'a chunk fails each time',
    resource: 'vulnerabilities',
    fault: { name: 'chunk-failed', times: 'always' },
    reason: /^1 chunks of the export failed or were cancelled$/,
  },
  {
    what: 'it ends in an error each time',
    resource: 'was',
    fault: { name: 'job-error', times: 'always' },
    reason: /^the export failed or was cancelled$/,
  },
  {
    what: 'a chunk is left out each time',
    resource: 'findings',
    fault: { name: 'dropped-page', times: 'always' },
    reason: /^3 chunks came of 4 of the export$/,
  },
  {
    what: 'more chunks are declared than come',
    resource: 'vulnerabilities',
    fault: { name: 'wrong-total' },
    reason: /^4 chunks came of 11 of the export$/,
  },
  {
    what: 'a chunk repeats another one',
    resource: 'findings',
    fault: { name: 'repeated-page', times: 'always' },
    reason: /^chunk \d of the export holds what another one held$/,
  },
  {
    what: 'a chunk is an error',
    resource: 'assets',
    fault: { name: 'error-200', path: CHUNK },
    reason: /chunks\/\d was answered with 200: a chunk is no list$/,
  },
];

describe('an export is whole or failed when', () => {
  const results = new Map<string, { running: RunningVendor; result: RunResult }>();

  // Side by side, for most of their time is spent between two looks at the export.
  beforeAll(async () => {
    await Promise.all(
      CASES.map(async ({ what, resource, fault }) => {
        const folder = await temporaryFolder();
        await mkdir(join(folder, 'data'));
        await writeFile(join(folder, 'data', `tenableio_${resource}.ndjson`), OLD);
        const running = await startVendor(vendor, { scale: 300, pageSize: 100, faults: [{ ...fault, resource }] });
        results.set(what, { running, result: await collect(running.env, [resource], folder) });
        await running.close();
      }),
    );
  });

  test.each(CASES)('$what', async ({ what, resource, reason }) => {
    const { running, result } = results.get(what) as { running: RunningVendor; result: RunResult };
    const dataset = resultOf(result.summary, `tenableio_${resource}`);
    if (reason === undefined) {
      expect(dataset.verdict).toBe('complete');
      await expectTruth(result, running, resource);
    } else {
      expect(dataset.verdict).toBe('failed');
      expect(dataset.reason).toMatch(reason);
      expect(result.summary.exit_code).toBe(3);
      expect(await storedLines(result.folder, `tenableio_${resource}`)).toEqual([OLD.trimEnd()]);
    }
  });
});

describe('the same export under way', () => {
  test('is joined where the vendor names it', async () => {
    const resources = ['vulnerabilities', 'findings', 'was'] as const;
    const running = await start({ scale: 150, pageSize: 50 });
    const first = await Promise.all(resources.map((resource) => startByHand(running, PATHS[resource])));
    const result = await collect(running.env, resources);
    expect(result.summary.exit_code).toBe(0);
    for (const resource of resources) await expectTruth(result, running, resource);
    const posts = running.requests.filter(({ method }) => method === 'POST').map(({ status }) => status);
    expect(posts).toEqual([200, 200, 200, 409, 409, 409]);
    const gets = running.requests.filter(({ method }) => method === 'GET').map(({ path }) => path);
    expect(gets.filter((path) => !first.some((job) => path.includes(job)))).toEqual([]);
  });

  test('is replaced where the vendor cancels the old one', async () => {
    const running = await start({ scale: 150, pageSize: 50 });
    const first = await startByHand(running, PATHS.assets);
    await expectTruth(await collect(running.env, ['assets']), running, 'assets');
    expect(running.requests.filter(({ path }) => path.includes(first))).toEqual([]);
  });
});

describe('an export', () => {
  test('is fetched four chunks at once, never more, though many are there', async () => {
    const held: ServerResponse[] = [];
    let left = 14;
    const server = await serve((request, response) => {
      if (!request.url.pathname.includes('/chunks/')) return exportOf(14)(request, response);
      held.push(response);
      // Answered only once four wait, or all that are left.
      if (held.length < Math.min(4, left)) return;
      for (const waiting of held.splice(0)) {
        left -= 1;
        json(waiting, [{ id: left }]);
      }
    });
    const result = await collect(keysFor(server), ['assets']);
    expect(resultOf(result.summary, 'tenableio_assets')).toMatchObject({ verdict: 'complete', records: 14 });
    expect(server.peak()).toBe(4);
  });

  test('is given up after TIO_EXPORT_TIMEOUT, and cancelled', async () => {
    const server = await serve(exportOf(0, 'PROCESSING'));
    const { summary } = await collect({ ...keysFor(server), TIO_EXPORT_TIMEOUT: '1' }, ['assets']);
    expect(resultOf(summary, 'tenableio_assets')).toMatchObject({
      verdict: 'failed',
      reason: 'the export did not end within 1 s',
      mend: 'raise TIO_EXPORT_TIMEOUT if it may take longer',
    });
    expect(calls(server).at(-1)).toBe('POST /assets/export/job-1/cancel');
  });

  test('that nobody reads on is cancelled while it is under way, and left alone once it has ended', async () => {
    for (const [state, last] of [
      ['PROCESSING', 'POST /assets/export/job-1/cancel'],
      ['FINISHED', 'GET /assets/export/job-1/chunks/1'],
    ] as const) {
      const server = await serve(exportOf(1, state));
      const { http } = await openClient(server.origin);
      const pages = exportPages({ http, sleep: async () => undefined, from: undefined }, plainJob, {
        poll: 1,
        timeout: 60,
        setting: 'X',
      });
      for await (const page of pages) {
        expect(await textOf(page)).toBe('{"id":1}\n');
        break;
      }
      expect(calls(server).at(-1)).toBe(last);
    }
  });

  test('whose chunk stays away is gone after some looks', async () => {
    const server = await serve((request, response) =>
      request.url.pathname.includes('/chunks/') ? json(response, {}, 404) : exportOf(1)(request, response),
    );
    const { http } = await openClient(server.origin);
    const patience = { poll: 1, timeout: 60, setting: 'X' };
    const pages = exportPages({ http, sleep: async () => undefined, from: undefined }, plainJob, patience);
    await expect(pages.next()).rejects.toMatchObject({ code: 'expired', message: 'chunk 1 of the export is gone' });
    expect(calls(server).filter((call) => call.includes('/chunks/'))).toHaveLength(5);
  });
});

describe('settings', () => {
  test('choose the states, and go by their other names too', async () => {
    const server = await serve(emptyExport);
    const env = {
      TIO_URL: server.origin.href,
      TENABLEIO_ACCESS_KEY: 'canary-access',
      TENABLEIO_SECRET_KEY: 'canary-secret',
      TIO_VULN_STATES: 'OPEN;FIXED',
    };
    expect((await collect(env, ['vulnerabilities', 'was'])).summary.exit_code).toBe(0);
    for (const [, body] of bodies(server)) expect(body).toMatchObject({ filters: { state: ['OPEN', 'FIXED'] } });
  });

  test('that make no sense are told before anything is sent', async () => {
    const server = await serve(emptyExport);
    const { summary } = await collect({ ...keysFor(server), TIO_VULN_STATES: 'OPEN,closed' });
    expect(summary.exit_code).toBe(2);
    expect(summary.problems[0]).toMatchObject({ where: 'TIO_VULN_STATES' });
    expect(server.received).toEqual([]);
  });

  test('that are refused end in exit 4', async () => {
    const running = await start({ scale: 10 });
    const { summary } = await collect({ ...running.env, TIO_SECRET_KEY: 'another' });
    expect(summary.exit_code).toBe(4);
  });
});

/** An export by hand, as it could be left by a run that was cut off. */
async function startByHand({ origin, env }: RunningVendor, path: string): Promise<string> {
  const key = `accessKey=${env.TIO_ACCESS_KEY};secretKey=${env.TIO_SECRET_KEY}`;
  const body = '{"num_assets":50,"chunk_size":100,"num_findings":50}';
  const answer = await fetch(origin + path, { method: 'POST', headers: { 'x-apikeys': key }, body });
  return ((await answer.json()) as { export_uuid: string }).export_uuid;
}

function keysFor({ origin }: ScriptedServer): Readonly<Record<string, string>> {
  const keys = { TIO_ACCESS_KEY: 'canary-access', TIO_SECRET_KEY: 'canary-secret' };
  return { TIO_URL: origin.href, TIO_POLL_SECONDS: '1', ...keys };
}

/** Answers for an export of chunks that hold a record each. */
function exportOf(chunks: number, status = 'FINISHED') {
  return ({ method, url }: Received, response: ServerResponse): void => {
    const chunk = /\/chunks\/(\d+)$/.exec(url.pathname)?.[1];
    const available = Array.from({ length: chunks }, (_, n) => n + 1);
    if (chunk !== undefined) json(response, [{ id: Number(chunk) }]);
    else if (method === 'POST') json(response, { export_uuid: 'job-1' });
    else json(response, { status, chunks_available: available, chunks_failed: [], chunks_cancelled: [] });
  };
}

const emptyExport = exportOf(0);

/** The export of assets, as the kit sees it. */
const plainJob: ExportJob = {
  start: { path: '/assets/export', method: 'POST', body: {} },
  id: 'export_uuid',
  status: (id) => ({ path: `/assets/export/${id}/status` }),
  read(body) {
    const { status, chunks_available: chunks } = body as { status: string; chunks_available: number[] };
    return { state: status === 'FINISHED' ? 'finished' : 'working', chunks: chunks.map(String), lost: 0 };
  },
  chunk: (id, chunk) => ({ path: `/assets/export/${id}/chunks/${chunk}`, records: '' }),
  cancel: (id) => ({ path: `/assets/export/${id}/cancel`, method: 'POST' }),
};

function bodies({ received }: ScriptedServer): (readonly [string, unknown])[] {
  return received.filter(({ method }) => method === 'POST').map(({ url, body }) => [url.pathname, JSON.parse(body)]);
}

function calls({ received }: ScriptedServer): string[] {
  return received.map(({ method, url }) => `${method} ${url.pathname}`);
}

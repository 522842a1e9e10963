import { expect, test } from 'vitest';
import { changeOf, type Standing, standingAfter } from '../../src/report/standing.ts';
import type { DatasetResult, DatasetVerdict, RunSummary } from '../../src/run/summary.ts';

const NOTHING: Standing = { datasets: {}, wrong: {} };

function dataset(resource: string, verdict: DatasetVerdict, stores: DatasetResult['stores'] = []): DatasetResult {
  const counts = { records: 1, pages: 1, requests: 1, retries: 0, waited_ms: 0, bytes: 1, duration_ms: 1 };
  return { tag: `okta_${resource}`, collector: 'okta', resource, verdict, ...counts, upload_id: 'u', stores };
}

function summary(day: number, datasets: readonly DatasetResult[], more: Partial<RunSummary> = {}): RunSummary {
  const at = new Date(Date.UTC(2026, 0, day)).toISOString();
  const run = { run_id: 'r', version: '1', tenancy: 't', started_at: at, finished_at: at, exit_code: 0 };
  return { ...run, datasets, stores: [], problems: [], ...more };
}

const after = (...runs: readonly RunSummary[]) => runs.reduce(standingAfter, NOTHING);

test('what is wrong has been so since the first run that found it, and what is wrong otherwise since another', () => {
  const failed = [1, 2, 3].map((day) => summary(day, [dataset('users', 'failed')]));
  const denied = summary(4, [dataset('users', 'denied')]);
  expect(after(...failed).wrong).toEqual({ 'dataset okta_users failed': failed[0]?.started_at });
  const { wrong, mended, changed } = changeOf(after(...failed), denied);
  expect(wrong).toMatchObject([{ what: 'okta_users', since: denied.started_at }]);
  expect([mended, changed]).toEqual([[], true]);
});

test('a store that is down is one thing, however many datasets it did not take', () => {
  const error = [{ store: 'postgres', at: '', records: 0, error: 'refused' }];
  const stores = [{ store: 'postgres', uploads: 2 }];
  const down = summary(1, [dataset('users', 'complete', error), dataset('groups', 'complete', error)], { stores });
  const change = changeOf(NOTHING, down);
  expect(change.wrong.map(({ what, message }) => [what, message])).toEqual([
    ['store postgres', '2 datasets were not stored, 2 uploads wait in the outbox: refused'],
  ]);
  const up = summary(2, [dataset('users', 'complete')], { stores: [{ store: 'postgres', uploads: 0 }] });
  expect(changeOf(after(down), up)).toMatchObject({ wrong: [], mended: [{ what: 'store postgres' }], changed: true });
});

test('a dataset that no run asks for is forgotten after a month, with what was wrong with it', () => {
  const first = summary(1, [dataset('users', 'complete'), dataset('groups', 'failed')]);
  const soon = after(first, summary(20, [dataset('users', 'complete')]));
  expect(Object.keys(soon.datasets).sort()).toEqual(['okta_groups', 'okta_users']);
  expect(Object.keys(soon.wrong)).toEqual(['dataset okta_groups failed']);
  const late = standingAfter(soon, summary(32, [dataset('users', 'complete')]));
  expect(late).toMatchObject({ datasets: { okta_users: {} }, wrong: {} });
  expect(late.datasets.okta_groups).toBeUndefined();
});

test('a run that ends badly for no other reason is itself what is wrong', () => {
  expect(changeOf(NOTHING, summary(1, [], { exit_code: 5 })).wrong).toMatchObject([
    { what: 'the run', message: 'no collector is configured' },
  ]);
});

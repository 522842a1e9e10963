import { expect, test } from 'vitest';
import { scheduleOf, sleepUntil, type Timing } from '../../src/run/schedule.ts';

const moment = (text: string) => Date.parse(text);
const iso = (at: number) => new Date(at).toISOString();

test('a bridge that sleeps begins at once, and again so long behind the end of its run', async () => {
  const schedule = await scheduleOf({ sleep: 3600, failSleep: 0.2 });
  expect(schedule.first(5000)).toBe(5000);
  expect(schedule.next({ due: 0, ended: 10_000, failed: false })).toEqual({ at: 3_610_000 });
  expect(schedule.next({ due: 0, ended: 10_000, failed: true })).toEqual({ at: 10_200 });
});

const hourly: Timing = { cron: '0 * * * *', timezone: 'UTC', failSleep: 300 };

test.each([
  ['the next tick, when the run ended before it', '10:05', false, '11:00', undefined],
  ['the end of the run, once, when a tick passed meanwhile', '11:20', false, '11:20', '11:00'],
  ['the end of the run, once, when many ticks passed', '14:20', false, '14:20', '11:00'],
  ['a retry, when it failed', '10:05', true, '10:10', undefined],
  ['the tick, when it failed and that comes before the retry', '10:58', true, '11:00', undefined],
  ['a retry and not at once, when it failed and a tick passed', '11:20', true, '11:25', '11:00'],
])('behind a run comes %s', async (_what, ended, failed, at, overdue) => {
  const on = (time: string) => moment(`2026-11-21T${time}:00Z`);
  const next = (await scheduleOf(hourly)).next({ due: on('10:00'), ended: on(ended), failed });
  expect(iso(next.at)).toBe(iso(on(at)));
  expect(next.overdue).toBe(overdue === undefined ? undefined : on(overdue));
});

test('a tick that was made up for is not made up for again', async () => {
  const schedule = await scheduleOf(hourly);
  const ended = moment('2026-11-21T11:20:00Z');
  const { at: due } = schedule.next({ due: moment('2026-11-21T10:00:00Z'), ended, failed: false });
  const next = schedule.next({ due, ended: due + 60_000, failed: false });
  expect(next).toEqual({ at: moment('2026-11-21T12:00:00Z') });
});

test.each([
  ['winter', '2026-01-15T00:00:00Z', '2026-01-15T05:30:00Z'],
  ['summer', '2026-07-15T00:00:00Z', '2026-07-15T04:30:00Z'],
])('a time zone keeps its own time in %s', async (_season, from, at) => {
  const schedule = await scheduleOf({ cron: '30 6 * * *', timezone: 'Europe/Madrid' });
  expect(iso(schedule.first(moment(from)))).toBe(iso(moment(at)));
});

test('an hour that comes twice brings a daily run once, one that is left out brings it too', async () => {
  const schedule = await scheduleOf({ cron: '30 2 * * *', timezone: 'Europe/Madrid' });
  const ticks = (from: string, n: number) => {
    const found = [schedule.first(moment(from))];
    for (let nth = 1; nth < n; nth += 1) found.push(schedule.first(found.at(-1) ?? 0));
    return found.map(iso);
  };
  expect(ticks('2026-10-24T12:00:00Z', 2)).toEqual(['2026-10-25T00:30:00.000Z', '2026-10-26T01:30:00.000Z']);
  expect(ticks('2026-03-28T12:00:00Z', 2)).toEqual(['2026-03-29T01:00:00.000Z', '2026-03-30T00:30:00.000Z']);
});

test.each([
  [{ cron: 'hourly' }, /'hourly' is no cron expression/],
  [{ cron: '61 * * * *' }, /is no cron expression/],
  [{ cron: '0 0 30 2 *' }, /never comes/],
  [{ cron: '0 * * * *', timezone: 'Europe/Madird' }, /'Europe\/Madird' is no time zone/],
])('%j is refused', async (timing, why) => {
  await expect(scheduleOf(timing)).rejects.toMatchObject({ code: 'config', message: expect.stringMatching(why) });
});

test('a wait ends at its moment, or with the signal', async () => {
  const stop = new AbortController();
  expect(await sleepUntil(Date.now() + 5, stop.signal)).toBe(true);
  const waiting = sleepUntil(Date.now() + 3_600_000, stop.signal);
  stop.abort();
  expect(await waiting).toBe(false);
});

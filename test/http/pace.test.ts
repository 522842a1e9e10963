import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { header, limit, type Pace, Pacer, type PacerOptions, resetHeader, systemClock } from '../../src/http/pace.ts';
import { type FakeClock, fakeClock } from '../support/clock.ts';
import { failureOf } from '../support/failure.ts';

function pacer(paces: readonly Pace[], options: Partial<PacerOptions> & { clock: FakeClock }): Pacer {
  return new Pacer(paces, { concurrency: 8, headroom: 0, ...options });
}

const ignore = () => undefined;

/** The moments at which so many requests start that take so long each. */
async function startsOf(pace: Pacer, clock: FakeClock, count: number, duration: (n: number) => number) {
  const starts: number[] = [];
  await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const leave = await pace.turn(undefined, ignore);
      starts.push(clock.now());
      const takes = duration(n);
      if (takes > 0) await clock.sleep(takes);
      leave();
    }),
  );
  return starts.sort((a, b) => a - b);
}

/** The most starts in any window of this length. */
function most(starts: readonly number[], milliseconds: number): number {
  let first = 0;
  let found = 0;
  for (const [last, at] of starts.entries()) {
    while ((starts[first] ?? 0) <= at - milliseconds) first += 1;
    found = Math.max(found, last - first + 1);
  }
  return found;
}

it('a limit of one base URL leaves requests to others alone', async () => {
  const clock = fakeClock();
  const pace = pacer([limit(1, 30, new URL('https://one.example/api'))], { clock });
  for (const url of ['https://one.example/api/a', 'https://two.example/', 'https://one.example/other']) {
    (await pace.turn(undefined, ignore, url))();
  }
  expect(pace.pausedFor('https://two.example/')).toBe(0);
  expect(pace.pausedFor('https://one.example/api/b')).toBeGreaterThanOrEqual(30_000);
});

describe('limit(10, 1)', () => {
  it('never lets eleven start in a second, and uses at least 95 % of it', async () => {
    const clock = fakeClock();
    const starts = await startsOf(pacer([limit(10, 1)], { clock }), clock, 1000, () => 0);
    expect(most(starts, 1000)).toBe(10);
    const seconds = ((starts.at(-1) ?? 0) - (starts[0] ?? 0)) / 1000;
    expect(1000 / (seconds + 1)).toBeGreaterThanOrEqual(9.5);
  });

  it('nor with requests of any length', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3000), { minLength: 20, maxLength: 120 }), async (durations) => {
        const clock = fakeClock();
        const pace = pacer([limit(10, 1)], { clock });
        const starts = await startsOf(pace, clock, durations.length, (n) => durations[n] ?? 0);
        expect(starts.length).toBe(durations.length);
        expect(most(starts, 1000)).toBeLessThanOrEqual(10);
      }),
      { numRuns: 60 },
    );
  });

  it('holds on the machine’s own clock', async () => {
    const pace = new Pacer([limit(10, 0.2)], { concurrency: 8, headroom: 0 });
    const starts = await startsOf(pace, { ...systemClock, slept: [] }, 35, () => 1);
    expect(most(starts, 200)).toBeLessThanOrEqual(10);
  });
});

describe('several limits', () => {
  it('hold together', async () => {
    const clock = fakeClock();
    const starts = await startsOf(pacer([limit(4, 1), limit(50, 60)], { clock }), clock, 200, () => 100);
    expect(most(starts, 1000)).toBeLessThanOrEqual(4);
    expect(most(starts, 60_000)).toBeLessThanOrEqual(50);
  });
});

describe('concurrency', () => {
  it('bounds what is under way, and serves everyone', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.nat(500), { maxLength: 60 }),
        async (concurrency, durations) => {
          const clock = fakeClock();
          const pace = pacer([], { clock, concurrency });
          let active = 0;
          let peak = 0;
          await Promise.all(
            durations.map(async (takes) => {
              const leave = await pace.turn(undefined, ignore);
              active += 1;
              peak = Math.max(peak, active);
              await clock.sleep(takes);
              active -= 1;
              leave();
              leave(); // twice counts once
            }),
          );
          expect(peak).toBe(Math.min(concurrency, durations.length));
        },
      ),
      { numRuns: 50 },
    );
  });

  it('those who give up while they wait take nobody’s place', async () => {
    const clock = fakeClock();
    const pace = pacer([], { clock, concurrency: 1 });
    const leave = await pace.turn(undefined, ignore);
    const stops = Array.from({ length: 5 }, () => new AbortController());
    const waiting = stops.map((stop) => pace.turn(stop.signal, ignore));
    stops[1]?.abort(new Error('no'));
    stops[3]?.abort(new Error('no'));
    leave();
    const ends = await Promise.allSettled(
      waiting.map(async (turn) => {
        (await turn)();
      }),
    );
    expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled']);
  });
});

describe('headers of the limit', () => {
  const watched = resetHeader('x-left', 'x-reset', 'x-limit');

  it('leave the headroom to others', async () => {
    const clock = fakeClock();
    const pace = pacer([watched], { clock, headroom: 0.1, concurrency: 1 });
    const starts: number[] = [];
    let left = 100;
    const reset = Math.ceil(clock.now() / 1000) + 60;
    for (let n = 0; n < 100; n += 1) {
      const leave = await pace.turn(undefined, ignore);
      starts.push(clock.now());
      left -= 1;
      pace.observe({ 'x-left': String(left), 'x-limit': '100', 'x-reset': String(reset) }, leave);
      leave();
      if (clock.now() >= reset * 1000) break;
    }
    expect(starts.length).toBe(91); // the last one after the reset
    expect(starts.at(-1)).toBeGreaterThanOrEqual(reset * 1000);
  });

  it('of several limits hold each', async () => {
    const clock = fakeClock();
    const pace = pacer([resetHeader('x-second', 'x-second-reset'), resetHeader('x-hour', 'x-hour-reset')], { clock });
    const leave = await pace.turn(undefined, ignore);
    leave();
    pace.observe({ 'x-second': '0', 'x-second-reset': '1', 'x-hour': '0', 'x-hour-reset': '100' });
    expect(pace.pausedFor()).toBe(100_000);
    await clock.sleep(1000);
    pace.observe({ 'x-second': '9', 'x-second-reset': '1', 'x-hour': '80', 'x-hour-reset': '90' });
    expect(pace.pausedFor()).toBe(0);
  });

  it('count requests under way, which the vendor has not seen yet', async () => {
    const clock = fakeClock();
    const pace = pacer([watched], { clock });
    const leaves = await Promise.all(Array.from({ length: 4 }, () => pace.turn(undefined, ignore)));
    pace.observe({ 'x-left': '3', 'x-reset': '30' });
    leaves[0]?.();
    expect(pace.pausedFor()).toBeGreaterThan(29_000);
  });

  it('count those no more whose answer has begun', async () => {
    const pace = pacer([watched], { clock: fakeClock() });
    const first = await pace.turn(undefined, ignore);
    pace.observe({ 'x-left': '2', 'x-reset': '30' }, first);
    const second = await pace.turn(undefined, ignore); // while the body of the first still comes
    pace.observe({ 'x-left': '1', 'x-reset': '30' }, second);
    expect(pace.pausedFor()).toBe(0);
    await pace.turn(undefined, ignore);
    expect(pace.pausedFor()).toBeGreaterThan(29_000);
  });

  it('give nothing back when an answer was overtaken', async () => {
    const clock = fakeClock();
    const pace = pacer([watched], { clock });
    const first = await pace.turn(undefined, ignore);
    const second = await pace.turn(undefined, ignore);
    const reset = String(clock.now() / 1000 + 60);
    pace.observe({ 'x-left': '1', 'x-reset': reset }, second);
    pace.observe({ 'x-left': '2', 'x-reset': reset }, first);
    expect(pace.pausedFor()).toBeGreaterThan(0);
  });

  it('without a reset make it wait for the window', async () => {
    const clock = fakeClock();
    const pace = pacer([resetHeader('x-left')], { clock });
    const leave = await pace.turn(undefined, ignore);
    pace.observe({ 'x-left': '0' }, leave);
    leave();
    expect(pace.pausedFor()).toBe(60_000);
  });

  it('that are missing or make no sense change nothing', () => {
    const clock = fakeClock();
    const pace = pacer([watched], { clock });
    pace.observe({});
    pace.observe({ 'x-left': 'plenty', 'x-reset': '30' });
    expect(pace.pausedFor()).toBe(0);
  });

  it('are read whatever their form', () => {
    expect(header({ link: ['<a>; rel="x"', '<b>; rel="next"'] }, 'Link')).toBe('<a>; rel="x", <b>; rel="next"');
    expect(header({}, 'link')).toBeUndefined();
  });
});

describe('waits', () => {
  it('are counted, and a pause holds for everyone', async () => {
    const clock = fakeClock();
    const pace = pacer([], { clock });
    pace.pauseUntil(clock.now() + 5000);
    pace.pauseUntil(clock.now() + 1000); // a shorter one does not shorten it
    let waited = 0;
    const started = clock.now();
    await pace.turn(undefined, (milliseconds) => {
      waited += milliseconds;
    });
    expect(waited).toBe(5000);
    expect(clock.now() - started).toBe(5000);
  });

  it('past the deadline fail, and free the place', async () => {
    const clock = fakeClock();
    const pace = pacer([], { clock, concurrency: 1, deadline: clock.now() + 4999 });
    pace.pauseUntil(clock.now() + 5000);
    expect((await failureOf(pace.turn(undefined, ignore))).code).toBe('throttled');
    expect((await failureOf(pace.turn(undefined, ignore))).code).toBe('throttled');
  });

  it('end with the signal', async () => {
    const stop = new AbortController();
    const pace = new Pacer([], { concurrency: 1, headroom: 0 });
    pace.pauseUntil(Date.now() + 600_000);
    const turn = pace.turn(stop.signal, ignore);
    const reason = new Error('enough');
    stop.abort(reason);
    await expect(turn).rejects.toBe(reason);
    await expect(systemClock.sleep(1000, stop.signal)).rejects.toBe(reason);
  });
});

it('to be told to wait by a limit that stands alone holds there alone', async () => {
  const clock = fakeClock();
  const own = { ...limit(100, 60, new URL('https://one.example/api/a')), alone: true };
  const pace = pacer([own], { clock });
  pace.pauseUntil(clock.now() + 5000, 'https://one.example/api/a?cursor=x');
  expect(pace.pausedFor('https://one.example/api/a?cursor=y')).toBe(5000);
  expect(pace.pausedFor('https://one.example/api/b')).toBe(0);
  pace.pauseUntil(clock.now() + 3000, 'https://one.example/api/b');
  expect(pace.pausedFor('https://one.example/api/c')).toBe(3000);
});

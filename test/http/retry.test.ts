import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backoff, classify, resetAt, retryAfter } from '../../src/http/retry.ts';

const NOW = Date.UTC(2026, 2, 1, 12);

describe('what an answer means', () => {
  it.each([
    [200, 'ok'],
    [204, 'ok'],
    [400, 'failed'],
    [401, 'credentials'],
    [403, 'denied'],
    [404, 'failed'],
    [408, 'retry'],
    [425, 'retry'],
    [429, 'throttled'],
    [500, 'retry'],
    [503, 'retry'],
    [522, 'retry'],
    [599, 'retry'],
  ])('%i is %s', (status, outcome) => expect(classify(status, '', []).outcome).toBe(outcome));

  it('the first rule that matches both status and text decides', () => {
    const rules = [
      { as: 'empty' }, // says nothing of when, so it never matches
      { status: [403, 404], body: /quota/, as: 'throttled', because: 'the quota is used up' },
      { status: 403, as: 'unlicensed' },
      { body: /gone/, as: 'expired' },
    ] as const;
    expect(classify(403, 'over quota', rules)).toEqual({ outcome: 'throttled', because: 'the quota is used up' });
    expect(classify(403, 'no', rules)).toEqual({ outcome: 'unlicensed' });
    expect(classify(404, 'no', rules).outcome).toBe('failed');
    expect(classify(200, 'cursor is gone', rules).outcome).toBe('expired');
    expect(classify(200, 'fine', rules).outcome).toBe('ok');
  });

  it('the wait is the one that the text tells, else the rule’s', () => {
    const rules = [{ body: /slow down/, as: 'throttled', wait: 60, told: /"after":([\d.]+)/ }] as const;
    expect(classify(200, '{"slow down":{"after":1.5}}', rules).wait).toBe(1.5);
    expect(classify(200, 'slow down', rules).wait).toBe(60);
  });
});

describe('backoff', () => {
  it('doubles from a second to a minute, and jitter only adds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (tries, random) => {
        const base = Math.min(60_000, 1000 * 2 ** (tries - 1));
        const wait = backoff(tries, () => random);
        expect(wait).toBeGreaterThanOrEqual(base);
        expect(wait).toBeLessThanOrEqual(base * 1.25);
      }),
    );
  });
});

describe('moments that vendors tell', () => {
  it.each([
    ['7', 7000],
    [' 7 ', 7000],
    ['0', 0],
    ['0.25', 250],
    ['1.0004', 1001],
    ['Sun, 01 Mar 2026 12:00:09 GMT', 9000],
    ['Sunday, 01-Mar-26 12:00:09 GMT', 9000],
  ])('Retry-After: %s', (value, wait) => expect(retryAfter(value, NOW, undefined)).toBe(NOW + wait));

  it.each([undefined, '', 'soon', '-5', '1,5', '12 apples?'])('Retry-After: %s says nothing', (value) =>
    expect(retryAfter(value, NOW, undefined)).toBeUndefined(),
  );

  it('a date is on the vendor’s clock', () => {
    const behind = new Date(NOW - 300_000).toUTCString();
    expect(retryAfter(new Date(NOW - 290_000).toUTCString(), NOW, behind)).toBe(NOW + 10_000);
    expect(resetAt(String((NOW - 290_000) / 1000), NOW, behind)).toBe(NOW + 10_000);
    expect(resetAt(String(NOW - 290_000), NOW, behind)).toBe(NOW + 10_000);
  });

  it.each([
    ['30', NOW + 30_000],
    ['0.5', NOW + 500],
    [String(NOW / 1000 + 30), NOW + 30_000],
    [String(NOW + 30_500), NOW + 30_500],
    [new Date(NOW + 30_000).toUTCString(), NOW + 30_000],
  ])('a reset header of %s', (value, at) => expect(resetAt(value, NOW, undefined)).toBe(at));

  it('a reset is never read as earlier than it is, whatever the skew', () => {
    const skew = fc.integer({ min: -100_000, max: 100_000 });
    fc.assert(
      fc.property(fc.nat(10 ** 7), skew, fc.nat(5000), (ms, wrong, seconds) => {
        const now = NOW + ms;
        const vendor = now + wrong;
        const epoch = Math.ceil(vendor / 1000) + seconds;
        const at = resetAt(String(epoch), now, new Date(vendor).toUTCString());
        expect(at).toBeGreaterThanOrEqual(epoch * 1000 - wrong);
        expect(at).toBeLessThan(epoch * 1000 - wrong + 1000);
      }),
    );
  });
});

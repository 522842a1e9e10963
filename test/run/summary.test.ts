import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DatasetResult, type DatasetVerdict, type Ending, exitCode } from '../../src/run/summary.ts';

const FINE: Ending = {
  deadline: false,
  defect: false,
  locked: false,
  misconfigured: false,
  behind: false,
  active: 1,
  refused: 0,
};

function result(verdict: DatasetVerdict, storeFailed = false): DatasetResult {
  return {
    ...{ tag: 'okta_users', collector: 'okta', resource: 'users', verdict, records: 1, pages: 1, requests: 1 },
    ...{ retries: 0, waited_ms: 0, bytes: 0, duration_ms: 1, upload_id: 'u' },
    stores: [{ store: 'file', at: 'x', records: 1, ...(storeFailed ? { error: 'disk full' } : {}) }],
  };
}

/** What each code takes, from the first that applies to the last. */
const CASES: readonly (readonly [number, Partial<Ending>, readonly DatasetResult[]])[] = [
  [130, { signal: 130 }, []],
  [143, { signal: 143 }, []],
  [1, { defect: true }, []],
  [8, { locked: true }, []],
  [2, { misconfigured: true }, []],
  [124, { deadline: true }, []],
  [4, { active: 2, refused: 2 }, []],
  [3, {}, [result('failed')]],
  [6, {}, [result('complete', true)]],
  [5, { active: 0 }, []],
];

describe('the exit code', () => {
  it.each(CASES)('%i', (code, ending, datasets) => expect(exitCode({ ...FINE, ...ending }, datasets)).toBe(code));

  it('several apply: the first of 130/143, 1, 8, 2, 124, 4, 3, 6, 5', () => {
    fc.assert(
      fc.property(fc.subarray([...CASES], { minLength: 1 }), (cases) => {
        fc.pre(!(cases.some(([code]) => code === 130) && cases.some(([code]) => code === 143)));
        fc.pre(!(cases.some(([code]) => code === 4) && cases.some(([code]) => code === 5)));
        const ending: Ending = Object.assign({ ...FINE }, ...cases.map(([, one]) => one));
        expect(
          exitCode(
            ending,
            cases.flatMap(([, , datasets]) => datasets),
          ),
        ).toBe(cases[0]?.[0]);
      }),
    );
  });

  it.each([
    ['complete', 0],
    ['empty', 0],
    ['failed', 3],
    ['denied', 3],
    ['restored', 3],
    ['quarantined', 3],
  ] as const)('of a dataset that is %s is %i', (verdict, code) => {
    expect(exitCode(FINE, [result('complete'), result(verdict)])).toBe(code);
  });

  it('one collector of two with refused credentials is no 4', () => {
    expect(exitCode({ ...FINE, active: 2, refused: 1 }, [result('failed'), result('complete')])).toBe(3);
  });
});

import { inspect } from 'node:util';
import { CollectError } from '../../src/errors.ts';

/** The CollectError that work ends with. */
export async function failureOf(work: Promise<unknown> | undefined | (() => unknown)): Promise<CollectError> {
  let value: unknown;
  try {
    value = await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error instanceof CollectError) return error;
    throw error;
  }
  throw new Error(`this should have failed, and gave ${inspect(value)}`);
}

import { inspect } from 'node:util';
import { onTestFinished } from 'vitest';
import { environmentOf, resolveShape } from '../../src/config/environment.ts';
import type { Shape } from '../../src/config/setting.ts';
import type { Kind, Sink, Store } from '../../src/stores/store.ts';

/** A store opened by its variables, for tenancy `acme` unless told; the test's end closes it. */
export async function openStore<S extends Shape>(...how: Parameters<typeof openSink<S>>): Promise<Sink> {
  const sink = await openSink(...how);
  onTestFinished(() => sink.close?.());
  return sink;
}

/** The same, for who closes it. */
export async function openSink<S extends Shape>(
  store: Store<S>,
  variables: Readonly<Record<string, string>>,
  warnings: string[] = [],
  tenancy = 'acme',
): Promise<Sink> {
  const resolved = resolveShape(environmentOf(variables), store.name, store.env, store.aliases);
  if (resolved.values === undefined) throw new Error(inspect(resolved));
  const at = new Date('2026-03-04T05:06:07Z');
  return store.open(resolved.values, { tenancy, at, warn: (said) => warnings.push(said) });
}

/** The targets of a dataset by a store's variables. */
export function targetsOf<S extends Shape>(
  store: Store<S>,
  variables: Readonly<Record<string, string>>,
  tag = 'okta_users',
  kind: Kind = 'snapshot',
): readonly string[] | undefined {
  const resolved = resolveShape(environmentOf(variables), store.name, store.env, store.aliases);
  if (resolved.values === undefined) throw new Error(inspect(resolved));
  const names = { uuid: '00000000-0000-4000-8000-000000000000', tag, tenancy: 'acme', at: new Date(0) };
  return store.targets(resolved.values, kind, names);
}

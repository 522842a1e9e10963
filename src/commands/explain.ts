import { randomUUID } from 'node:crypto';
import { type Collector, idOf, isCustom, parentOf, type Resource, tagOf } from '../collectors/collector.ts';
import { type Environment, resolveShape } from '../config/environment.ts';
import { CollectError, type Problem } from '../errors.ts';
import { type Output, table } from '../report/tables.ts';
import { programOf } from '../run/activate.ts';
import { cardOf } from '../run/cards.ts';
import { namesFor, nearest, selects } from '../run/select.ts';
import type { Store } from '../stores/store.ts';
import { openSession, type SessionFlags } from './session.ts';

/** Flags of `explain`. */
export interface ExplainFlags extends SessionFlags {
  readonly output: Output;
}

/**
 * Tells all there is to know of a collector's datasets: the older tool's `meta()`; with a bare `--config`, where each
 * variable comes from. Returns the exit code.
 */
export async function explain(name: string | undefined, flags: ExplainFlags): Promise<number> {
  if (flags.config === true || (name === undefined && flags.config !== undefined)) {
    return (await import('./configuration.ts')).configuration(name, flags);
  }
  if (name === undefined) {
    throw new CollectError('config', 'explain needs a name', { mend: 'write explain okta.users, or explain --config' });
  }
  return explainDatasets(name, flags);
}

async function explainDatasets(name: string, flags: ExplainFlags): Promise<number> {
  const { environment, rooms, print, progress } = await openSession({ ...flags, only: [name] });
  const { collectors, stores, idle } = rooms;
  progress.stop();
  const found = collectors.flatMap((collector) =>
    Object.entries(collector.resources)
      .filter(([resource]) => selects(name, collector.name, resource))
      .map(([resource, definition]) => describe(environment, stores, collector, resource, definition, flags.tenancy)),
  );
  if (found.length === 0) {
    const known = [...collectors.map(cardOf), ...idle.collectors].flatMap((card) =>
      card.resources.flatMap((resource) => namesFor(card.name, resource)),
    );
    const near = nearest(name, known);
    throw new CollectError('config', `nothing is called '${name}'`, {
      title: 'Unknown name',
      mend: near === undefined ? 'see cyber-collect list' : `did you mean ${near}?`,
    });
  }
  if (flags.output === 'json') print(JSON.stringify(found));
  else {
    for (const facts of found) {
      const rows = Object.entries(facts)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => [key, Array.isArray(value) ? value.join(', ') : String(value)]);
      print(`${table(['FACT', facts.tag], rows, flags.output)}\n`);
    }
  }
  return 0;
}

/** The facts of one dataset, as `explain` shows them. */
export interface Explanation {
  readonly tag: string;
  readonly collector: string;
  readonly resource: string;
  readonly about: string;
  readonly kind: string;
  readonly endpoint: string;
  readonly paging?: string;
  readonly permission?: string;
  readonly identity?: string;
  readonly parent?: string;
  readonly total?: string;
  readonly adds?: string;
  readonly drops?: string;
  readonly variables: readonly string[];
  readonly state: string;
  readonly targets: readonly string[];
  readonly docs: string;
}

function describe(
  environment: Environment,
  stores: readonly Store[],
  collector: Collector,
  resource: string,
  definition: Resource<never>,
  tenancy: string | undefined,
): Explanation {
  const tag = tagOf(collector.name, resource);
  const resolved = resolveShape(environment, collector.name, collector.env, collector.aliases);
  const facts = resourceFacts(collector, definition, resolved.values);
  return {
    tag,
    collector: collector.name,
    resource,
    ...facts,
    variables: Object.keys(collector.env),
    state: resolved.state === 'partial' ? `half set, missing ${resolved.missing.join(', ')}` : resolved.state,
    targets: targets(environment, stores, tag, definition.kind ?? 'snapshot', tenancy),
    docs: collector.docs,
  };
}

/** What a resource's definition says in words. Without settings the collector's usual paging is not known. */
export function resourceFacts(collector: Collector, definition: Resource<never>, settings?: unknown) {
  const listing = isCustom(definition) ? undefined : definition;
  const usual = settings === undefined ? undefined : collector.http?.(settings as never).paginate;
  const paging =
    listing === undefined ? 'its own' : listing.paginate === null ? 'one page' : (listing.paginate ?? usual)?.about;
  const identity = idOf(definition).join(' + ');
  const adds = isCustom(definition)
    ? Object.keys(definition.adds ?? {})
    : Object.keys(('keep' in definition && definition.keep) || {});
  const parent = parentOf(definition);
  return {
    about: definition.about,
    kind: definition.kind ?? 'snapshot',
    endpoint: `${definition.method ?? 'GET'} ${definition.path}`,
    ...(paging === undefined ? {} : { paging }),
    ...(definition.needs === undefined ? {} : { permission: definition.needs }),
    ...(identity === '' ? {} : { identity }),
    ...(parent === undefined ? {} : { parent }),
    ...(listing?.total === undefined ? {} : { total: told(listing.total) }),
    ...(adds.length === 0 ? {} : { adds: adds.join(', ') }),
    ...(definition.secrets === undefined ? {} : { drops: definition.secrets.join(', ') }),
  };
}

function told(total: string | { readonly header: string }): string {
  return typeof total === 'string' ? total : `header ${total.header}`;
}

function targets(
  environment: Environment,
  stores: readonly Store[],
  tag: string,
  kind: 'snapshot' | 'events',
  tenancy: string | undefined,
): string[] {
  const problems: Problem[] = [];
  const program = programOf(environment, problems);
  return stores.flatMap((store) => {
    const { values } = resolveShape(environment, store.name, store.env, store.aliases);
    if (values === undefined) return [];
    return [
      ...(store.targets(values, kind, {
        uuid: randomUUID(),
        tag,
        tenancy: tenancy ?? program.TENANCY,
        at: new Date(),
      }) ?? []),
    ];
  });
}

import { Resolver } from 'node:dns/promises';
import { CollectError } from '../errors.ts';
import type { Json, JsonObject } from '../json.ts';

/** What could not be learnt of a domain, part -> why. */
export type Faults = Record<string, string>;

/** There is no such name, or it has no record of the type. */
const ABSENT = new Set(['ENODATA', 'ENOTFOUND']);
/** The resolver answered that it could not tell. */
const ANSWERED = new Set(['ESERVFAIL', 'EREFUSED', 'EFORMERR', 'ENOTIMP', 'EBADNAME', 'EBADRESP']);

/** Look-ups at the resolvers that were chosen, or at those of the system. */
export interface Dns {
  /** The records of a type: none is a fact; what the resolver could not tell is noted in `faults`. */
  look(part: string, faults: Faults, ask: (resolver: Resolver) => Promise<unknown>): Promise<Json[]>;
  cancel(): void;
}

/** Opens look-ups; every query is given so many milliseconds. */
export function openDns(servers: readonly string[], timeout: number): Dns {
  const resolver = new Resolver({ timeout, tries: 2 });
  if (servers.length > 0) resolver.setServers([...servers]);
  let answers: Promise<void> | undefined;
  return {
    async look(part, faults, ask) {
      try {
        const found = await ask(resolver);
        return Array.isArray(found) ? (found as Json[]) : [found as Json];
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code ?? 'EUNKNOWN';
        if (ABSENT.has(code)) {
          if (code === 'ENOTFOUND') faults[part] = code;
          return [];
        }
        if (!ANSWERED.has(code)) {
          // Either the domain's name servers are dead or our resolver is: the root's are not.
          answers ??= assertAnswers(resolver);
          await answers;
        }
        faults[part] = code;
        return [];
      }
    },
    cancel: () => resolver.cancel(),
  };
}

async function assertAnswers(resolver: Resolver): Promise<void> {
  try {
    await resolver.resolveNs('.');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'EUNKNOWN';
    if (ABSENT.has(code) || ANSWERED.has(code)) return;
    throw new CollectError('network', `no DNS resolver answers (${code} from ${resolver.getServers().join(', ')})`, {
      mend: 'set DOMAINS_RESOLVERS to one that this machine reaches',
    });
  }
}

/** What the DNS says of a domain. */
export async function recordsOf(dns: Dns, domain: string, faults: Faults): Promise<JsonObject> {
  const look = (part: string, ask: (resolver: Resolver) => Promise<unknown>) => dns.look(part, faults, ask);
  const [a, aaaa, ns, soa, mx, chunks, caa, policy] = await Promise.all([
    look('a', (resolver) => resolver.resolve4(domain)),
    look('aaaa', (resolver) => resolver.resolve6(domain)),
    look('ns', (resolver) => resolver.resolveNs(domain)),
    look('soa', (resolver) => resolver.resolveSoa(domain)),
    look('mx', (resolver) => resolver.resolveMx(domain)),
    look('txt', (resolver) => resolver.resolveTxt(domain)),
    look('caa', (resolver) => resolver.resolveCaa(domain)),
    look('dmarc', (resolver) => resolver.resolveTxt(`_dmarc.${domain}`)),
  ]);
  // A name without a policy does not exist, which is no fault of the domain.
  if (faults.dmarc === 'ENOTFOUND') delete faults.dmarc;
  const exists = !Object.values(faults).includes('ENOTFOUND');
  for (const [part, code] of Object.entries(faults)) if (code === 'ENOTFOUND') delete faults[part];
  if (!exists) faults.dns = 'ENOTFOUND';
  const txt = joined(chunks);
  return {
    exists,
    a: a.sort(),
    aaaa: aaaa.sort(),
    ns: ns.sort(),
    soa: soa[0] ?? null,
    mx: (mx as { exchange: string; priority: number }[])
      .map(({ exchange, priority }) => ({ exchange, priority }))
      .sort((one, two) => one.priority - two.priority || (one.exchange < two.exchange ? -1 : 1)),
    txt,
    spf: txt.find((one) => /^v=spf1(\s|$)/i.test(one)) ?? null,
    dmarc: joined(policy).find((one) => /^v=dmarc1\s*(;|$)/i.test(one)) ?? null,
    caa,
  };
}

/** A TXT record comes in chunks of 255 bytes. */
function joined(records: readonly Json[]): string[] {
  return (records as unknown as string[][]).map((chunks) => chunks.join('')).sort();
}

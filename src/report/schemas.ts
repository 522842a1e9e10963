import { z } from 'zod';

const text = z.string();
const count = z.int().nonnegative();

const problem = z.strictObject({
  id: text.describe('Heading'),
  severity: z.enum(['WARNING', 'ERROR', 'CRITICAL']),
  where: text,
  message: text,
  mend: text.describe('What to do about it'),
});

const delivery = z.strictObject({
  store: text,
  at: text.describe('Where it was put; empty when it failed'),
  records: count,
  sha256: text.optional().describe('Of what was written, where it is one file'),
  error: text.optional(),
  mend: text.optional(),
  waits: z.literal(true).optional().describe('It waits in the outbox for the next run'),
});

const drift = z.strictObject({
  new: z.array(text).describe('Dotted paths of fields; [] stands for the elements of a list, * for any key'),
  vanished: z.array(text),
  retyped: z.array(z.strictObject({ field: text, from: z.array(text), to: z.array(text) })),
  more: count.optional().describe('Changes that are not listed'),
});

const dataset = z.strictObject({
  tag: text,
  collector: text,
  resource: text,
  verdict: z.enum(['complete', 'empty', 'failed', 'denied', 'restored', 'quarantined']),
  cause: z
    .enum(['failed', 'denied', 'quarantined'])
    .optional()
    .describe('What went wrong before the backup stepped in'),
  records: count,
  expected: count.optional().describe('What the vendor declared'),
  left_out: count.optional().describe('Records that the settings leave out'),
  lag: z
    .strictObject({ bytes: count, lines: count.optional(), seconds: z.number().nonnegative().optional() })
    .optional()
    .describe('How far reading was behind what was written, once the stores had what was read'),
  pages: count,
  requests: count,
  retries: count,
  waited_ms: count.describe('Spent waiting for the vendor’s limit or between tries'),
  bytes: count.describe('Received from the vendor'),
  duration_ms: count,
  reason: text.optional(),
  mend: text.optional(),
  title: text.optional().describe('Heading of what went wrong'),
  upload_id: z.uuid(),
  sha256: text.optional().describe('Of the records as NDJSON'),
  stale: z.literal(true).optional(),
  resumed: z.literal(true).optional().describe('It, or a part of it, comes from a run that was interrupted'),
  age_s: z.int().optional().describe('Age of a restored copy in seconds'),
  drift: drift.optional().describe('How the fields differ from those of the last good upload, as samples show'),
  stores: z.array(delivery),
});

const standing = z.strictObject({
  tag: text,
  collector: text,
  resource: text,
  verdict: text.describe('Of its newest run'),
  records: count,
  run_at: text.describe('Start of its newest run'),
  good_at: text.optional().describe('Start of the run that brought the last good upload'),
  age_s: z.int().optional().describe('Seconds since then'),
  late: z.boolean().optional().describe('Whether that is more than --max-age, or there is none'),
  wrong_since: text
    .optional()
    .describe('Start of the first of the runs, up to the newest, in which something is wrong'),
  title: text.optional(),
  reason: text.optional(),
  mend: text.optional(),
  failing: z.array(z.strictObject({ store: text, error: text })).describe('Stores that did not take it'),
  counts: z.array(z.strictObject({ at: text, verdict: text, records: count })).describe('Of each run, oldest first'),
  drift: drift.extend({ at: text }).optional().describe('The newest change of its fields'),
});

const room = z.strictObject({
  name: text,
  title: text,
  state: z.enum(['idle', 'half set', 'invalid', 'active']),
  missing: z.array(text),
  required: z.array(text),
  problems: z.array(problem),
});

const kind = z.enum(['snapshot', 'events']);

/** What `--output json` prints, by command; kept stable. */
export const schemas = {
  run: z.strictObject({
    run_id: z.uuid(),
    version: text,
    tenancy: text,
    started_at: text.describe('ISO 8601, UTC'),
    finished_at: text,
    exit_code: z.int(),
    datasets: z.array(dataset),
    stores: z
      .array(z.strictObject({ store: text, uploads: count, error: text.optional() }))
      .describe('Uploads that wait for each store in the outbox'),
    problems: z.array(problem),
    head: z
      .strictObject({ sequence: count, sha256: text })
      .optional()
      .describe('The record of this run: verify --head SHA256 finds whether it or any before was changed'),
  }),
  plan: z.strictObject({
    tenancy: text,
    datasets: z.array(z.strictObject({ tag: text, kind, endpoint: text, needs: text, targets: z.array(text) })),
    problems: z.array(problem),
  }),
  list: z.strictObject({
    collectors: z.array(room.extend({ datasets: z.array(text) })),
    stores: z.array(room),
  }),
  explain: z.array(
    z.strictObject({
      tag: text,
      collector: text,
      resource: text,
      about: text,
      kind,
      endpoint: text,
      paging: text.optional(),
      permission: text.optional(),
      identity: text.optional(),
      parent: text.optional(),
      total: text.optional(),
      adds: text.optional(),
      drops: text.optional(),
      variables: z.array(text),
      state: text,
      targets: z.array(text),
      docs: text,
    }),
  ),
  settings: z.strictObject({
    file: text.optional().describe('The configuration file'),
    variables: z.array(
      z.strictObject({
        name: text,
        unit: text.describe('What it is for: the program, run, or a room'),
        value: text.describe('[secret] in place of a secret'),
        from: text.describe('flag, environment, an env file, a place in the configuration file, or default'),
        secret: z.boolean(),
      }),
    ),
  }),
  replay: z.strictObject({
    tenancy: text,
    stores: z.array(z.strictObject({ store: text, delivered: count, left: count, error: text.optional() })),
  }),
  verify: z.strictObject({
    tenancy: text,
    records: count,
    head: text.optional().describe('SHA-256 of the last record'),
    findings: z.array(z.strictObject({ what: text, finding: text })),
  }),
  status: z.strictObject({
    at: text,
    max_age_s: z.number().optional(),
    tenancies: z.array(
      z.strictObject({
        tenancy: text,
        runs: count.describe('Run records that were read, from the newest back'),
        last_run: z.strictObject({ run_id: text, started_at: text, finished_at: text, exit_code: z.int() }).optional(),
        datasets: z.array(standing),
        stores: z
          .array(z.strictObject({ store: text, uploads: count, bytes: count, oldest: text }))
          .describe('Uploads that wait in the outbox'),
        unreadable: z.array(z.strictObject({ path: text, finding: text })),
      }),
    ),
  }),
  doctor: z.strictObject({
    findings: z.array(
      z.strictObject({
        what: text,
        state: z.enum(['fine', 'denied', 'credentials', 'failed']),
        message: text,
        mend: text.optional(),
      }),
    ),
    problems: z.array(problem),
  }),
} as const;

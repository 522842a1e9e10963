import { run } from '../../src/commands/run.ts';
import { asCollectError } from '../../src/errors.ts';
import { sessionOf } from './run.ts';

/** One run in this process; in the same folder again, it knows of the runs before. */
export async function runIn(
  folder: string,
  env: Readonly<Record<string, string>>,
  only = ['okta.users', 'okta.groups'],
) {
  const { session, said, printed, unredacted } = await sessionOf(folder, { env });
  const started = Date.now();
  const code = await run(
    {
      envFile: [],
      logFormat: 'text',
      only,
      exclude: [],
      concurrency: 4,
      deadline: 60,
      acceptShrink: [],
      output: 'json',
    },
    session,
  ).catch((thrown: unknown) => asCollectError(thrown).code);
  return { code, ms: Date.now() - started, said: said.join('\n'), printed, unredacted };
}

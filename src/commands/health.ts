import { lookUp } from '../config/environment.ts';
import { programAliases } from '../config/program.ts';
import { table } from '../report/tables.ts';
import { programOf } from '../run/activate.ts';
import { BEAT_LASTS, type Beat, readBeat } from '../run/beat.ts';
import { assertSafe } from '../templating/template.ts';
import { bridgesApart } from './bridged.ts';
import { openEnvironment } from './session.ts';
import type { WatchFlags } from './watch.ts';

/** Tells whether a watch gives signs of life: exit code 0, or 3. */
export async function health(given: Pick<WatchFlags, 'envFile' | 'config' | 'tenancy' | 'output'>): Promise<number> {
  const { flags } = await bridgesApart(given);
  const environment = await openEnvironment(flags);
  const program = programOf(environment, []);
  const tenancy = flags.tenancy ?? lookUp(environment, 'TENANCY', programAliases)?.value ?? program.TENANCY;
  assertSafe('TENANCY', tenancy);
  const beat = await readBeat(program.CYBER_COLLECT_STATE, tenancy);
  const age = beat === undefined ? undefined : Math.max(0, Math.round((Date.now() - Date.parse(beat.at)) / 1000));
  const alive = age !== undefined && age <= BEAT_LASTS;
  process.stdout.write(`${shown({ tenancy, beat, age, alive }, flags.output)}\n`);
  return alive ? 0 : 3;
}

interface Health {
  readonly tenancy: string;
  readonly beat: Beat | undefined;
  /** Seconds. */
  readonly age: number | undefined;
  readonly alive: boolean;
}

function shown({ tenancy, beat, age, alive }: Health, output: WatchFlags['output']): string {
  if (output === 'json') return JSON.stringify({ tenancy, alive, age_s: age ?? null, ...beat });
  if (beat === undefined) return `no watch of tenancy ${tenancy} runs here`;
  const rows = beat.bridges.map(({ name, exit_code, next }) => [name, String(exit_code ?? ''), next ?? '']);
  const line = `watch of tenancy ${tenancy}: last sign of life ${age} s ago${alive ? '' : ', which is too long'}`;
  return `${line}\n\n${table(['BRIDGE', 'LAST EXIT', 'NEXT RUN'], rows, output)}`;
}

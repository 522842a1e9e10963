import type { State } from '../run/state.ts';
import type { RunSummary } from '../run/summary.ts';
import type { Redactor } from './redact.ts';

/** Keeps a run's summary in the state folder, by its start; returns the path. */
export function writeRunRecord(state: State, summary: RunSummary, redactor: Redactor): Promise<string> {
  const name = `${summary.started_at.replaceAll(':', '')}-${summary.run_id}.json`;
  return state.write(JSON.parse(redactor.redact(JSON.stringify(summary))), 'runs', summary.tenancy, name);
}

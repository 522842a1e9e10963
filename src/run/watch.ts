import type { Log } from '../report/log.ts';
import { BEAT, type Beat, type BridgeBeat, removeBeat, writeBeat } from './beat.ts';
import type { Bridge } from './bridges.ts';
import { type Schedule, sleepUntil } from './schedule.ts';
import type { State } from './state.ts';

/** A bridge and when it runs. */
export interface Scheduled {
  readonly bridge: Bridge;
  readonly schedule: Schedule;
}

/** What bridges are kept going with. */
export interface Keeping {
  /** One run of a bridge; returns its exit code. What it throws ends the watch. */
  readonly round: (bridge: Bridge) => Promise<number>;
  /** How a bridge stands, whenever that changes. */
  readonly tell: (beat: BridgeBeat) => void;
  readonly signal: AbortSignal;
  readonly log: Log;
}

/** Runs a bridge whenever its schedule says, one run behind the other, until the signal; returns the last exit code. */
export async function keepGoing({ bridge, schedule }: Scheduled, keeping: Keeping): Promise<number | undefined> {
  const { round, tell, signal, log } = keeping;
  const { name } = bridge;
  let last: number | undefined;
  const stand = (next?: number) =>
    tell({
      name,
      ...(last === undefined ? {} : { exit_code: last }),
      ...(next === undefined || next === Number.POSITIVE_INFINITY ? {} : { next: new Date(next).toISOString() }),
    });
  for (let due = schedule.first(Date.now()); ; ) {
    stand(due);
    if (!(await sleepUntil(due, signal))) return last;
    stand();
    const code = await round(bridge);
    const { at, overdue } = schedule.next({ due, ended: Date.now(), failed: code !== 0 });
    if (!signal.aborted) {
      const when = new Date(at).toISOString();
      if (overdue !== undefined) {
        const was = new Date(overdue).toISOString();
        log('WARNING', 'watch.overdue', `${name}: it was due at ${was}, while it ran: that is done once, at ${when}`, {
          bridge: name,
        });
      }
      const severity = code === last ? 'DEBUG' : code === 0 ? 'INFO' : 'WARNING';
      const how = code === 0 ? 'complete' : `not complete (exit code ${code})`;
      log(severity, 'watch.bridge', `${name}: ${how}, next run at ${when}`, { bridge: name, exit_code: code });
    }
    last = code;
    due = at;
  }
}

/** Gives signs of life of bridges, now and then and whenever one of them stands otherwise, until it is ended. */
export function beating(state: State, tenancy: string, who: Pick<Beat, 'pid' | 'host'>, failed: (why: Error) => void) {
  const bridges = new Map<string, BridgeBeat>();
  let writing: Promise<void> = Promise.resolve();
  let waits = false;
  const write = () => {
    waits = false;
    return writeBeat(state, tenancy, { at: new Date().toISOString(), ...who, bridges: [...bridges.values()] });
  };
  const beat = () => {
    if (waits) return;
    waits = true;
    writing = writing.then(write).catch(failed);
  };
  const timer = setInterval(beat, BEAT);
  return {
    tell(bridge: BridgeBeat): void {
      bridges.set(bridge.name, bridge);
      beat();
    },
    async end(): Promise<void> {
      clearInterval(timer);
      await writing;
      await removeBeat(state, tenancy);
    },
  };
}

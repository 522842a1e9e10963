import type { programShape } from '../config/program.ts';
import type { Values } from '../config/setting.ts';
import { asCollectError, CollectError } from '../errors.ts';
import type { EventName } from '../report/events.ts';
import { type Coordination, openCoordination } from '../run/coordination.ts';
import type { Session } from './session.ts';

/** What asks a command to end. */
interface Interruption {
  readonly signal: AbortSignal;
  /** The exit code that the signal asks for. */
  readonly signalCode: () => number | undefined;
}

/** What a command works with that knows of others, until it is asked to end. */
export interface Held extends Interruption, Omit<Coordination, 'close'> {}

/** As `untilSignal`, for work over the state and the locks; the event tells of the signal. */
export async function coordinated(
  { environment, log }: Pick<Session, 'environment' | 'log'>,
  program: Values<typeof programShape>,
  event: EventName,
  work: (held: Held) => Promise<number>,
): Promise<number> {
  const { state, locks, close } = await openCoordination(environment, program);
  const said = (name: string) => log('WARNING', event, `${name}: ending cleanly; once more ends at once`);
  return untilSignal(said, (interruption) => work({ state, locks, ...interruption })).finally(close);
}

/**
 * Does work that the first signal ends cleanly, and the second at once; returns its exit code, or that of the signal
 * that broke it off. A run that another process of this program began is asked to end when that one is gone, too.
 */
export async function untilSignal(
  said: (name: string) => void,
  work: (interruption: Interruption) => Promise<number>,
): Promise<number> {
  const controller = new AbortController();
  let code: number | undefined;
  const listen = (name: 'SIGINT' | 'SIGTERM', exit: number) => () => {
    if (code !== undefined) process.exit(exit);
    code = exit;
    said(name);
    controller.abort(new CollectError('aborted', `the run was interrupted by ${name}`, { mend: 'run again' }));
  };
  const interrupted = listen('SIGINT', 130);
  const terminated = listen('SIGTERM', 143);
  process.on('SIGINT', interrupted);
  process.on('SIGTERM', terminated);
  process.on('disconnect', terminated);
  try {
    return await work({ signal: controller.signal, signalCode: () => code });
  } catch (thrown) {
    if (code === undefined || asCollectError(thrown).code !== 'aborted') throw thrown;
    return code;
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', terminated);
    process.off('disconnect', terminated);
  }
}

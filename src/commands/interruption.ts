import { CollectError } from '../errors.ts';

/** What asks a command to end. */
export interface Interruption {
  readonly signal: AbortSignal;
  code(): number | undefined;
  stop(): void;
}

/**
 * The first signal ends the run cleanly, the second at once. A run that another process of this program began is asked
 * to end when that one is gone, too.
 */
export function listenForSignals(said: (name: string) => void): Interruption {
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
  return {
    signal: controller.signal,
    code: () => code,
    stop: () => {
      process.off('SIGINT', interrupted);
      process.off('SIGTERM', terminated);
      process.off('disconnect', terminated);
    },
  };
}

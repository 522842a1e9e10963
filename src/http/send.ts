import type { Dispatcher } from 'undici';
import type { Headers } from './pace.ts';

/** An answer whose body is still to come. */
export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

/** Bytes that may wait to be read before the connection is told to. */
const MAX_WAITING = 2 ** 20;

/** A body as it comes, to be read once; who stops reading closes the connection. */
class Body implements AsyncIterableIterator<Uint8Array> {
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #state: 'open' | 'ended' | 'failed' = 'open';
  #error: unknown;
  #wake: (() => void) | undefined;
  controller: Dispatcher.DispatchController | undefined;

  push(chunk: Uint8Array): void {
    this.#waiting.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes > MAX_WAITING) this.controller?.pause();
    this.#wake?.();
  }

  end(): void {
    if (this.#state === 'open') this.#state = 'ended';
    this.#wake?.();
  }

  fail(error: unknown): void {
    if (this.#state !== 'open') return;
    this.#state = 'failed';
    this.#error = error;
    this.#waiting = [];
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    while (this.#waiting.length === 0 && this.#state === 'open') {
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
    if (this.#state === 'failed') throw this.#error;
    const value = this.#waiting.shift();
    if (value === undefined) return { done: true, value };
    this.#bytes -= value.length;
    if (this.#waiting.length === 0 && this.controller?.paused === true) this.controller.resume();
    return { done: false, value };
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.discard();
    return { done: true, value: undefined };
  }

  /** Reads no further. */
  discard(): void {
    if (this.#state !== 'open') return;
    const reason = new Error('nobody reads the rest');
    this.fail(reason);
    this.controller?.abort(reason);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/**
 * Sends a request by undici's `dispatch`. Its `request` makes a stream of the body, which costs more than all else of
 * a page: 1.3 s of CPU in a million records.
 */
export function send(
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  signal: AbortSignal,
): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const body = new Body();
    // undici knows no signal here; and a proxy's CONNECT that is pending can only be left.
    const abort = () => {
      fail(signal.reason);
      body.controller?.abort(signal.reason);
    };
    const fail = (error: unknown) => {
      signal.removeEventListener('abort', abort);
      body.fail(error);
      reject(error);
    };
    signal.addEventListener('abort', abort, { once: true });
    dispatcher.dispatch(options, {
      onRequestStart(controller) {
        body.controller = controller;
        if (signal.aborted) controller.abort(signal.reason);
      },
      onResponseStart(_controller, status, headers) {
        if (status >= 200) resolve({ status, headers, body });
      },
      onResponseData: (_controller, chunk) => body.push(chunk),
      onResponseEnd() {
        signal.removeEventListener('abort', abort);
        body.end();
      },
      onResponseError: (_controller, error) => fail(error),
    });
  });
}

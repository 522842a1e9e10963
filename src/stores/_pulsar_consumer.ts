import { setTimeout as pause } from 'node:timers/promises';
import { asCollectError, CollectError } from '../errors.ts';
import { isObject, type JsonObject } from '../json.ts';
import { isPassing, nameOf, type Position, type Pulsar, positionOf, type Socket, type Topic } from './_pulsar.ts';

/** A message as it came. */
export interface Incoming {
  /** As the service wants it back; good on the connection it came over alone. */
  readonly id: string;
  readonly position: Position;
  readonly payload: Buffer;
  readonly properties: Readonly<Record<string, string>>;
  readonly key: string | undefined;
}

/** Where messages come from. */
export interface Subscribing {
  readonly topic: Topic;
  readonly subscription: string;
  readonly type: 'Shared' | 'Key_Shared';
  readonly signal: AbortSignal;
  /** Whether to wait for a service that is away for as long as it takes. */
  readonly patient: boolean;
  warn(message: string): void;
}

/** A subscription that is read from; messages come when they are asked for. */
export interface Consumer {
  /** Counts connections: what came over an earlier one comes again, and cannot be acknowledged any more. */
  readonly connection: () => number;
  /** The next message; undefined when none has come within so many milliseconds, or the signal was given. */
  next(within: number): Promise<Incoming | undefined>;
  acknowledge(message: Incoming): void;
  /** Lets the message come again in a moment. */
  refuse(message: Incoming): void;
  close(): Promise<void>;
}

/** Messages under way at once: what waits in memory while a batch is stored. */
const WINDOW = 200;
const TRIES = 10;
const WARNED = 4;
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 10_000;
const AGAIN_MS = 1000;

interface State {
  socket: Socket | undefined;
  /** Messages that may still come. */
  permitted: number;
  readonly waiting: Incoming[];
  connections: number;
  wake: () => void;
}

/**
 * Reads a subscription, which is made at the beginning of the topic where it is not there yet. A connection that
 * breaks is made anew.
 */
export function subscribe(pulsar: Pulsar, from: Subscribing): Consumer {
  const state: State = { socket: undefined, permitted: 0, waiting: [], connections: 0, wake: () => undefined };
  const stop = () => state.wake();
  from.signal.addEventListener('abort', stop);
  const say = (type: string, { id }: Incoming) => state.socket?.send(JSON.stringify({ type, messageId: id }));
  return {
    connection: () => state.connections,
    async next(within) {
      const until = Date.now() + within;
      for (;;) {
        if (from.signal.aborted) return undefined;
        if (state.socket === undefined) {
          await connected(pulsar, from, state);
          continue;
        }
        permit(state);
        const message = state.waiting.shift();
        if (message !== undefined) return message;
        if (Date.now() >= until) return undefined;
        await something(state, until);
      }
    },
    acknowledge: (message) => say('acknowledge', message),
    refuse: (message) => say('negativeAcknowledge', message),
    async close() {
      from.signal.removeEventListener('abort', stop);
      const { socket } = state;
      state.socket = undefined;
      await socket?.close();
    },
  };
}

/** Connects, which a signal ends without. */
async function connected(pulsar: Pulsar, from: Subscribing, state: State): Promise<void> {
  const { signal, patient, warn } = from;
  for (let tries = 1; !signal.aborted; tries += 1) {
    try {
      await connection(pulsar, from, state);
      return;
    } catch (thrown) {
      const error = asCollectError(thrown);
      if (!isPassing(error) || (tries >= TRIES && !patient)) throw error;
      if (tries === WARNED) warn(`${error.message}; trying again`);
      const wait = Math.min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE);
      await pause(wait, undefined, { signal }).catch(() => undefined);
    }
  }
}

async function connection(pulsar: Pulsar, { topic, subscription, type }: Subscribing, state: State): Promise<void> {
  const parameters = {
    subscriptionType: type,
    subscriptionInitialPosition: 'Earliest',
    pullMode: 'true',
    receiverQueueSize: String(WINDOW),
    negativeAckRedeliveryDelay: String(AGAIN_MS),
  };
  state.permitted = 0;
  state.waiting.length = 0;
  const socket: Socket = await pulsar.connect(
    { kind: 'consumer', topic, subscription, parameters },
    {
      message: (message) => {
        if (typeof message.messageId !== 'string') return;
        state.permitted -= 1;
        state.waiting.push(incoming(message));
        state.wake();
      },
      closed: () => {
        if (state.socket === socket) state.socket = undefined;
        state.wake();
      },
    },
  );
  state.socket = socket;
  state.connections += 1;
}

function incoming(message: JsonObject): Incoming {
  const { messageId, payload, properties, key } = message;
  const id = String(messageId);
  return {
    id,
    position: positionOf(id),
    payload: Buffer.from(String(payload ?? ''), 'base64'),
    properties: isObject(properties) ? (properties as Readonly<Record<string, string>>) : {},
    key: typeof key === 'string' ? key : undefined,
  };
}

/** Asks for more in time. */
function permit(state: State): void {
  const open = state.permitted + state.waiting.length;
  if (state.socket === undefined || open > WINDOW / 2) return;
  state.permitted += WINDOW - open;
  state.socket.send(JSON.stringify({ type: 'permit', permitMessages: WINDOW - open }));
}

async function something(state: State, until: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    state.wake = resolve;
    timer = setTimeout(resolve, Math.max(0, until - Date.now()));
  });
  clearTimeout(timer);
  state.wake = () => undefined;
}

const MOST_PARTS = 100;
const PARTS_MS = 30_000;

/**
 * The whole payload of a message that is the first of some parts: the others stand behind it in the topic, whoever
 * they were given to.
 * @throws {CollectError} incomplete where they do not come
 */
export async function joined(pulsar: Pulsar, topic: Topic, first: Incoming): Promise<Buffer> {
  const { partition } = first.position;
  const { upload_id, record, parts } = first.properties;
  const count = Number(parts);
  if (!(count <= MOST_PARTS)) throw new CollectError('refused', `a record comes in ${parts} parts`);
  const whole = partition === undefined || /-partition-\d+$/.test(topic.name);
  const place: Topic = whole ? topic : { ...topic, name: `${topic.name}-partition-${partition}` };
  const found = new Map<number, Buffer>([[1, first.payload]]);
  let timer: NodeJS.Timeout | undefined;
  let socket: Socket | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const late = new CollectError('incomplete', `${nameOf(place)}: parts of a record have not come in time`);
      timer = setTimeout(() => reject(late), PARTS_MS);
      const early: string[] = [];
      const message = (text: JsonObject) => {
        const part = incoming(text);
        const same = part.properties.upload_id === upload_id && part.properties.record === record;
        const nth = Number(part.properties.part);
        if (same && nth > 1 && nth <= count) found.set(nth, part.payload);
        if (found.size === count) resolve();
        else if (socket === undefined) early.push(part.id);
        else socket.send(JSON.stringify({ messageId: part.id }));
      };
      pulsar
        .connect({ kind: 'reader', topic: place, parameters: { messageId: first.id } }, { message, closed: reject })
        .then((opened) => {
          socket = opened;
          for (const id of early) opened.send(JSON.stringify({ messageId: id }));
        }, reject);
    });
  } finally {
    clearTimeout(timer);
    await socket?.close();
  }
  return Buffer.concat(Array.from({ length: count }, (_, n) => found.get(n + 1) ?? Buffer.alloc(0)));
}

import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CollectError } from '../errors.ts';
import type { JsonObject } from '../json.ts';
import { piecesOf } from './from_files.ts';
import type { Origin } from './from_records.ts';
import type { Source } from './source.ts';

/** An upload that a store holds. */
export interface Upload {
  readonly upload_id: string;
  /** The start of the run that brought it, ISO 8601. */
  readonly upload_timestamp: string;
  /** When the store noted it as whole, in epoch milliseconds. */
  readonly stored: number;
}

/** Uploads of a dataset in a store. */
export interface Uploads {
  readonly place: string;
  /** Those that were noted behind a moment, the first of them first. */
  since(moment: number): Promise<readonly Upload[]>;
  /** Writes the records of one into a file, as NDJSON. */
  copy(upload: Upload, path: string): Promise<void>;
  close(): Promise<void>;
}

/** The uploads that were read: all up to a moment, and those of the day before it by name, as clocks go back at times. */
interface Position extends JsonObject {
  readonly at: number;
  readonly known: { [upload_id: string]: number };
}

const DAY = 86_400_000;

/** Datasets as stores keep them: upload by upload, each read once. */
export function uploadsSource(uploads: Uploads, tag: string): Source {
  return {
    place: `${uploads.place} ${tag}`,
    live: false,
    close: () => uploads.close(),
    async *read(position, { signal, scratch }) {
      let { at, known } = (position ?? { at: 0, known: {} }) as Position;
      for (const upload of await uploads.since(at - DAY)) {
        signal.throwIfAborted();
        if (known[upload.upload_id] !== undefined) continue;
        at = Math.max(at, upload.stored);
        const recent = Object.entries(known).filter(([, stored]) => stored >= at - DAY);
        known = { ...Object.fromEntries(recent), [upload.upload_id]: upload.stored };
        const reached: Position = { at, known };
        const path = join(scratch, 'upload.ndjson');
        try {
          await uploads.copy(upload, path);
          const origin: Origin = { tag, at: upload.upload_timestamp };
          yield* piecesOf(createReadStream(path), `${uploads.place}, upload ${upload.upload_id},`, origin);
        } finally {
          await rm(path, { force: true });
        }
        yield { lines: Buffer.alloc(0), eventAt: none, position: async () => reached };
      }
      return { at, known };
    },
  };
}

/** There are no whole records of such a dataset. */
export function absent(place: string): CollectError {
  return new CollectError('config', `there is no table ${place} of whole records`, {
    mend: 'store the dataset there first, with the layout raw or both',
  });
}

function none(): never {
  throw new RangeError('there is no line');
}

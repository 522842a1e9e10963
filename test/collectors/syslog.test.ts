import {
  appendFile,
  chmod,
  copyFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type LineContext, recordOf, zoneOf } from '../../src/collectors/_syslog.ts';
import { linesOf } from '../../src/collectors/_syslog_lines.ts';
import type { Collector } from '../../src/collectors/collector.ts';
import source from '../../src/collectors/src_syslog.ts';
import { zstd } from '../../src/envelope/encoding.ts';
import { collectOnce, filesBelow, type RunChoice, resultOf, storedEvents, temporaryFolder } from '../support/run.ts';

const syslog = source as unknown as Collector;

const context: LineContext = {
  file: '/var/log/x',
  offset: 0,
  fingerprint: 'f',
  host: 'here',
  written: Date.parse('2026-01-02T00:00:00Z'),
  year: undefined,
  zone: zoneOf('UTC'),
};

describe('a line', () => {
  test('RFC 5424 with structured data, escapes and a BOM', () => {
    const line =
      '<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 ' +
      '[exampleSDID@32473 iut="3" eventSource="App\\"lication" iut="4"][x@1 y="\\]"] \uFEFFAn event';
    expect(recordOf(line, context)).toMatchObject({
      format: 'rfc5424',
      date: '2003-10-11T22:14:15.003Z',
      device_name: 'mymachine.example.com',
      app_name: 'evntslog',
      proc_id: null,
      msg_id: 'ID47',
      priority: 165,
      facility: 20,
      severity: 5,
      structured_data: { 'exampleSDID@32473': { iut: ['3', '4'], eventSource: 'App"lication' }, 'x@1': { y: ']' } },
      message: 'An event',
      data: line,
    });
  });

  test.each([
    ['<34>Oct 11 22:14:15 mymachine su: failed', 'rfc3164', '2025-10-11T22:14:15Z', 'mymachine', 'su', null, 'failed'],
    [
      'Oct  8 02:04:05 web01 sshd[123]: Accepted',
      'rfc3164',
      '2025-10-08T02:04:05Z',
      'web01',
      'sshd',
      '123',
      'Accepted',
    ],
    [
      'Jan  2 10:00:00 web01 cron[9]: later today',
      'rfc3164',
      '2026-01-02T10:00:00Z',
      'web01',
      'cron',
      '9',
      'later today',
    ],
    ['Mar  1 2024 01:02:03: %ASA-6-1: Built', 'rfc3164', '2024-03-01T01:02:03Z', 'here', '%ASA-6-1', null, 'Built'],
    ['Dec 31 23:59:59 kernel: [1.2] boot', 'rfc3164', '2025-12-31T23:59:59Z', 'here', 'kernel', null, '[1.2] boot'],
    ['2026-01-02T03:04:05.123456+01:00 h a[1]: m', 'iso', '2026-01-02T03:04:05.123456+01:00', 'h', 'a', '1', 'm'],
  ])('%s', (line, format, date, device, app, process, message) => {
    const record = recordOf(line, context);
    expect(record).toMatchObject({
      format,
      date,
      device_name: device,
      proc_id: process,
      message: expect.stringContaining(message),
    });
    if (app !== '%ASA-6-1') expect(record.app_name).toBe(app);
  });

  test('a log of a program of its own has a stamp, but neither host nor tag', () => {
    const line = '2025-06-24 14:36:25 upgrade libsystemd0:amd64 252.36 252.38';
    expect(recordOf(line, context)).toMatchObject({
      format: 'iso',
      date: '2025-06-24T14:36:25Z',
      device_name: 'here',
      app_name: null,
      message: 'upgrade libsystemd0:amd64 252.36 252.38',
    });
  });

  test.each(['', 'no stamp at all', '<999>Oct 11', 'Feb 30 10:00:00 h t: m', '<34>1 yesterday h a p m - x', '\u0000'])(
    'that is not understood is raw: %j',
    (line) => {
      expect(recordOf(line, context)).toMatchObject({ format: 'raw', data: line, message: line, device_name: 'here' });
    },
  );

  test('has a time-based id that is the same when it is read again, and another elsewhere', () => {
    const line = 'Oct 11 22:14:15 h t: m';
    const id = String(recordOf(line, context).event_id);
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(recordOf(line, context).event_id).toBe(id);
    expect(recordOf(line, { ...context, offset: 7 }).event_id).not.toBe(id);
    const [low = '', middle = '', high = ''] = id.split('-');
    const ticks = BigInt(`0x${high.slice(1)}${middle}${low}`);
    expect(new Date(Number(ticks / 10_000n - 12_219_292_800_000n)).toISOString()).toBe('2025-10-11T22:14:15.000Z');
  });

  test('stamps without a zone are of the zone that is set, over its changes', () => {
    const berlin = { ...context, zone: zoneOf('Europe/Berlin') };
    expect(recordOf('Jul  1 12:00:00 h t: m', berlin).date).toBe('2025-07-01T12:00:00+02:00');
    expect(recordOf('Dec  1 12:00:00 h t: m', berlin).date).toBe('2025-12-01T12:00:00+01:00');
  });
});

describe('a clock that is wrong', () => {
  const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  const at = (written: string) => ({ ...context, written: Date.parse(written) });

  test.each([
    ['9999-12-31T23:59:59Z', '<13>1 9999-12-31T23:59:59Z h a - - - m', 'rfc5424'],
    ['1969-01-01T00:00:00Z', '<13>1 1969-01-01T00:00:00Z h a - - - m', 'rfc5424'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00Z h a: m', 'iso'],
    ['2031-05-05 05:05:05', '2031-05-05 05:05:05 m', 'iso'],
  ])('%s is kept as it says, under an id that databases take', (_date, line, format) => {
    const record = recordOf(line, context);
    expect(record).toMatchObject({ format, data: line });
    expect(record.event_id).toMatch(uuid);
    expect(recordOf(line, at('2027-01-01T00:00:00Z')).event_id).toBe(record.event_id);
  });

  test('a stamp without a year is at most a day ahead of the file, else of the year before', () => {
    const day = (line: string, written: string) => String(recordOf(line, at(written)).date).slice(0, 10);
    expect(day('Dec 31 23:59:59 h t: m', '2026-01-01T00:00:05Z')).toBe('2025-12-31');
    expect(day('Jan  1 00:00:01 h t: m', '2025-12-31T23:59:50Z')).toBe('2026-01-01');
    expect(day('Dec  1 00:00:00 h t: m', '2026-01-15T00:00:00Z')).toBe('2025-12-01');
    expect(day('Jun 22 00:00:00 h t: m', '2026-06-21T12:00:00Z')).toBe('2026-06-22');
    expect(day('Jun 25 00:00:00 h t: m', '2026-06-21T12:00:00Z')).toBe('2025-06-25');
    expect(day('Feb 29 10:00:00 h t: m', '2024-03-01T00:00:00Z')).toBe('2024-02-29');
  });

  test('what only looks like a stamp is none', () => {
    for (const line of ['<34>1 5 h a p m - x', '<34>1 2026 h a p m - x', '<34>1 Oct h a p m - x'])
      expect(recordOf(line, context)).toMatchObject({ format: 'raw', device_name: 'here' });
  });
});

test('a line without a stamp has the date of the one before, so its id is the same when it is read again', () => {
  const stamp = '2025-10-11T22:14:15Z';
  const first = recordOf('  at main.c:7', { ...context, stamp });
  expect(first).toMatchObject({ format: 'raw', date: stamp });
  expect(recordOf('  at main.c:7', { ...context, stamp, written: 0 }).event_id).toBe(first.event_id);
  expect(recordOf('<34>1 - h a p m - x', { ...context, stamp, written: 0 }).date).toBe(stamp);
});

test('a word of thousands of letters is no host', () => {
  const record = recordOf(`Oct 11 22:14:15 ${'x'.repeat(60_000)} app: m`, context);
  expect(record).toMatchObject({ format: 'rfc3164', device_name: 'here' });
});

async function* inPieces(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (let n = 1; n < places.length; n += 1) yield Buffer.from(bytes.subarray(places[n - 1], places[n]));
}

test('no line is lost and every offset is right, however the bytes are cut', async () => {
  const text = fc.string({ unit: 'binary' }).map((word) => word.replace(/[\n\r\0]/g, ' '));
  await fc.assert(
    fc.asyncProperty(fc.array(text), fc.array(fc.nat(500)), fc.boolean(), async (words, cuts, ended) => {
      const bytes = Buffer.from(words.join('\n') + (ended && words.length > 0 ? '\n' : ''));
      const lines = [];
      for await (const line of linesOf(inPieces(bytes, cuts), 0, 10_000, true)) lines.push(line);
      const whole = bytes.toString('utf8').split('\n');
      if (whole.at(-1) === '') whole.pop();
      expect(lines.map(({ line }) => line)).toEqual(whole);
      for (const { line, offset } of lines) {
        expect(bytes.subarray(offset, offset + Buffer.byteLength(line)).toString()).toBe(line);
      }
    }),
  );
});

test('long lines are cut, bytes that are no UTF-8 are marked, holes and carriage returns go', async () => {
  const bytes = Buffer.concat([
    Buffer.from('12345678901\r\nab'),
    Buffer.from([0, 0]),
    Buffer.from('c\r\n'),
    Buffer.from([0xff, 0x41]),
  ]);
  const lines = [];
  for await (const line of linesOf(inPieces(bytes, [5]), 100, 10, true)) lines.push(line);
  expect(lines).toEqual([
    { line: '1234567890', offset: 100, end: 113, flags: { truncated: true } },
    { line: 'abc', offset: 113, end: 120, flags: {} },
    { line: '\uFFFDA', offset: 120, end: 122, flags: { invalid_utf8: true } },
  ]);
});

/** The texts of all events that were stored in a folder, in the order of the runs. */
async function storedIn(folder: string): Promise<string[]> {
  return (await recordsIn(folder)).map(({ data }) => String(data));
}

/** Their dates. */
async function datesIn(folder: string): Promise<string[]> {
  return (await recordsIn(folder)).map(({ date }) => String(date));
}

async function recordsIn(folder: string): Promise<Record<string, unknown>[]> {
  const files = (await filesBelow(join(folder, 'events'))).toSorted();
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
  return texts.flatMap((text) => text.split('\n').slice(0, -1)).map((line) => JSON.parse(line));
}

async function collectLogs(folder: string, more: Readonly<Record<string, string>> = {}, full = false) {
  await new Promise((later) => setTimeout(later, 2)); // file names order the runs by time
  const env = {
    SYSLOG_PATHS: join(folder, 'logs', '*.log'),
    STORE_FILE_EVENTS: join(folder, 'events', `${String(Date.now())}-%UUID.ndjson`),
    ...more,
  };
  const { summary } = await collectOnce({ env, folder, full });
  return summary;
}

async function logFolder(): Promise<{ folder: string; log: string }> {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'logs'));
  return { folder, log: join(folder, 'logs', 'app.log') };
}

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `Oct 11 22:14:15 host app[1]: message ${from + n}`);
const textOf = (from: number, to: number) => `${lines(from, to).join('\n')}\n`;

/** A log as its writer and its rotation see it. */
interface Scene {
  readonly folder: string;
  readonly log: string;
  readonly written: string[];
  /** The file that the writer holds open: behind a rotation still the old one. */
  held: FileHandle;
  half: string;
  next: number;
}

type Step = { readonly name: keyof typeof STEPS; readonly count: number };

const write = async (scene: Scene, count: number) => {
  for (let n = 0; n < count; n += 1) {
    scene.written.push(
      scene.half === '' ? `Oct 11 22:14:15 hôst app[1]: message ${scene.next++}` : `${scene.half} end`,
    );
    await scene.held.appendFile(`${scene.half === '' ? scene.written.at(-1) : ' end'}\n`);
    scene.half = '';
  }
};

const rotatedNames = async ({ folder }: Scene) =>
  (await readdir(join(folder, 'logs')))
    .filter((name) => /\.\d+(\.gz|\.zst)?$/.test(name))
    .sort((a, b) => Number(/\d+/.exec(b)) - Number(/\d+/.exec(a)));

const shift = async (scene: Scene) => {
  for (const name of await rotatedNames(scene)) {
    const moved = name.replace(/\d+/, (number) => String(Number(number) + 1));
    await rename(join(scene.folder, 'logs', name), join(scene.folder, 'logs', moved));
  }
};

const reopen = async (scene: Scene) => {
  if (scene.half !== '') await write(scene, 1);
  await scene.held.close();
  scene.held = await open(scene.log, 'a');
};

const run = async ({ folder }: Scene, more: Partial<RunChoice> = {}) => {
  const env = { SYSLOG_PATHS: join(folder, 'logs', 'app*'), SYSLOG_BATCH_SIZE: '7' };
  return collectOnce({ env, folder, collectors: [syslog], ...more });
};

/** What happens to logs. */
const STEPS = {
  write,
  writeHalf: async (scene: Scene) => {
    if (scene.half !== '') return;
    scene.half = `Oct 11 22:14:15 hôst app[1]: half ${scene.next++}`;
    await scene.held.appendFile(scene.half);
  },
  /** The writer goes on in the renamed file until it reopens. */
  rename: async (scene: Scene) => {
    await reopen(scene);
    await shift(scene);
    await rename(scene.log, `${scene.log}.1`);
    await writeFile(scene.log, '');
  },
  reopen,
  copyAndTruncate: async (scene: Scene, count: number) => {
    await reopen(scene);
    await shift(scene);
    await copyFile(scene.log, `${scene.log}.1`);
    if (count % 2 === 0) await run(scene);
    await truncate(scene.log);
  },
  compress: async (scene: Scene, count: number) => {
    await reopen(scene);
    const [name] = (await rotatedNames(scene)).filter((plain) => /\d$/.test(plain));
    if (name === undefined) return;
    const path = join(scene.folder, 'logs', name);
    const bytes = await readFile(path);
    const packed = count % 3 === 0 ? (await zstd()).compress(bytes, 3) : gzipSync(bytes);
    await writeFile(`${path}${count % 3 === 0 ? '.zst' : '.gz'}`, packed);
    if (count % 2 === 0) await run(scene);
    await rm(path);
  },
  run: async (scene: Scene) => void (await run(scene)),
  /** A run that is told to stop, sooner or later. */
  stop: async (scene: Scene, count: number) => {
    const signal = AbortSignal.timeout(count);
    await run(scene, { signal, signalCode: () => (signal.aborted ? 143 : undefined) });
  },
  failStore: async (scene: Scene) => {
    const blocked = join(scene.folder, 'blocked');
    await writeFile(blocked, '');
    const env = { STORE_FILE_EVENTS: join(blocked, '%UUID.ndjson'), CYBER_COLLECT_OUTBOX_MIB: '0' };
    const paths = { SYSLOG_PATHS: join(scene.folder, 'logs', 'app*') };
    await run(scene, { env: { ...paths, ...env } });
  },
} as const;

/** Behind these the copy of a log gets the inode of a file that was empty and is gone, where file systems use them again. */
const REUSED: Step[] = [
  ...['rename', 'copyAndTruncate', 'write', 'compress'].map((name) => ({ name: name as Step['name'], count: 1 })),
  { name: 'compress', count: 34 },
  { name: 'copyAndTruncate', count: 1 },
  { name: 'write', count: 4 },
];

test('no line is lost or doubled, whatever becomes of the files and the runs', async () => {
  const names = Object.keys(STEPS) as (keyof typeof STEPS)[];
  const step: fc.Arbitrary<Step> = fc.record({
    name: fc.constantFrom(...names, 'write' as const, 'write' as const, 'run' as const),
    count: fc.integer({ min: 1, max: 40 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 16 }), async (steps) => {
      const { folder, log } = await logFolder();
      const scene: Scene = { folder, log, written: [], held: await open(log, 'a'), half: '', next: 0 };
      try {
        await write(scene, 1);
        await run(scene);
        for (const { name, count } of steps) await STEPS[name](scene, count);
        await reopen(scene);
        await run(scene); // may only end what an interrupted one began
        const last = await run(scene);
        expect(resultOf(last.summary, 'syslog_events')).not.toHaveProperty('reason');
      } finally {
        await scene.held.close();
      }
      const stored = (await storedEvents(folder, 'syslog_events')) ?? [];
      const byNumber = (a: string, b: string) =>
        Number(/\d+( end)?$/.exec(a)?.[0].split(' ')[0]) - Number(/\d+( end)?$/.exec(b)?.[0].split(' ')[0]);
      expect(stored.map((line) => String(JSON.parse(line).data)).sort(byNumber)).toEqual(
        scene.written.toSorted(byNumber),
      );
    }),
    { numRuns: 25, endOnFailure: false, examples: [[REUSED]] },
  );
}, 120_000);

describe('files', () => {
  test('each run brings what is new, over a rotation and a copy with truncation; --full brings all', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, textOf(0, 2500));
    expect(resultOf(await collectLogs(folder), 'syslog_events')).toMatchObject({ verdict: 'complete', records: 2500 });
    expect(resultOf(await collectLogs(folder), 'syslog_events')).toMatchObject({
      verdict: 'empty',
      records: 0,
      stores: [],
    });
    await appendFile(log, textOf(2500, 2600));
    await collectLogs(folder);
    await appendFile(log, textOf(2600, 2650));
    await rename(log, `${log}.1`);
    await writeFile(log, textOf(2650, 2700));
    await collectLogs(folder);
    await copyFile(log, `${log}.2`);
    await truncate(log);
    await appendFile(log, textOf(2700, 2710));
    await collectLogs(folder);
    expect(await storedIn(folder)).toEqual(lines(0, 2710));
    expect(resultOf(await collectLogs(folder, {}, true), 'syslog_events').records).toBe(10);
  });

  test('rotated files are read too when asked for, oldest first', async () => {
    const { folder, log } = await logFolder();
    await writeFile(`${log}.2.gz`, gzipSync(textOf(0, 10)));
    await new Promise((later) => setTimeout(later, 20));
    await writeFile(`${log}.1`, textOf(10, 20));
    await new Promise((later) => setTimeout(later, 20));
    await writeFile(log, textOf(20, 30));
    await collectLogs(folder, { SYSLOG_INCLUDE_ROTATED: 'true' });
    expect(await storedIn(folder)).toEqual(lines(0, 30));
    expect(resultOf(await collectLogs(folder, { SYSLOG_INCLUDE_ROTATED: 'true' }), 'syslog_events').records).toBe(0);
  });

  test('a pattern that takes in rotated files, compressed by gzip and by zstd, reads each line once', async () => {
    const { folder, log } = await logFolder();
    const one = (await zstd()).compress(Buffer.from(textOf(0, 40_000)), 3);
    const two = (await zstd()).compress(Buffer.from(textOf(40_000, 40_010)), 3);
    await writeFile(`${log}.3.zst`, Buffer.concat([one, two]));
    await writeFile(`${log}.2.gz`, gzipSync(textOf(40_010, 40_020)));
    await writeFile(`${log}.1`, textOf(40_020, 40_030));
    await writeFile(log, textOf(40_030, 40_040));
    const all = { SYSLOG_PATHS: join(folder, 'logs', '*') };
    expect(resultOf(await collectLogs(folder, all), 'syslog_events').records).toBe(40_040);
    expect((await storedIn(folder)).toSorted()).toEqual(lines(0, 40_040).toSorted());
    expect(resultOf(await collectLogs(folder, all), 'syslog_events').records).toBe(0);
  });

  test('a damaged file is told, and nothing of the run is stored', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, textOf(0, 10));
    await writeFile(`${log}.1.gz`, gzipSync(textOf(0, 10_000)).subarray(0, 3000));
    const all = { SYSLOG_INCLUDE_ROTATED: 'true' };
    expect(resultOf(await collectLogs(folder, all), 'syslog_events').reason).toMatch(
      /app\.log\.1\.gz cannot be inflated/,
    );
    await writeFile(`${log}.1.gz`, gzipSync(textOf(10, 10_000)));
    expect(resultOf(await collectLogs(folder, all), 'syslog_events').records).toBe(10_000);
  });

  test('half a line waits for its end, unless the file is left as it is', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, 'one\ntw');
    await collectLogs(folder);
    expect(await storedIn(folder)).toEqual(['one']);
    await appendFile(log, 'o\nthree');
    await collectLogs(folder);
    expect(await storedIn(folder)).toEqual(['one', 'two']);
    const longAgo = new Date(Date.now() - 7_200_000);
    await utimes(log, longAgo, longAgo);
    await collectLogs(folder);
    expect(await storedIn(folder)).toEqual(['one', 'two', 'three']);
  });

  test('from the end means from the last line that was not whole, and whole from then on', async () => {
    const { folder, log } = await logFolder();
    await writeFile(`${log}.1`, textOf(0, 5));
    await writeFile(log, `${textOf(5, 10)}ha`);
    const fromEnd = { SYSLOG_FROM: 'end' };
    expect(resultOf(await collectLogs(folder, fromEnd), 'syslog_events').records).toBe(0);
    await appendFile(log, `lf\n${textOf(10, 12)}`);
    await rename(`${log}.1`, `${log}.2`);
    await rename(log, `${log}.1`);
    await writeFile(log, textOf(12, 14));
    await collectLogs(folder, fromEnd);
    expect(await storedIn(folder)).toEqual(['half', ...lines(10, 14)]);
  });

  test('long lines and lines of any bytes are stored', async () => {
    const { folder, log } = await logFolder();
    const noise = Buffer.from(Array.from({ length: 1000 }, (_, n) => (n * 37) % 256).filter((byte) => byte !== 10));
    const text = Buffer.from(`plain\n${'x'.repeat(2 ** 20)}\n`);
    await writeFile(log, Buffer.concat([text, noise, Buffer.from(`\n${textOf(0, 200)}`)]));
    const result = resultOf(await collectLogs(folder, { SYSLOG_MAX_LINE: '1000000' }), 'syslog_events');
    expect(result).toMatchObject({ verdict: 'complete', records: 203 });
    const stored = await storedIn(folder);
    expect(stored[1]).toHaveLength(1_000_000);
    expect(stored.slice(3)).toEqual(lines(0, 200));
  });

  test('NUL bytes, carriage returns, control bytes and a megabyte in one line are lines like others', async () => {
    const { folder, log } = await logFolder();
    const line = (text: string) => `Oct 11 22:14:15 host app[1]: ${text}`;
    const parts = [
      line('one\r\n'),
      line('t\0w\0o\n'),
      `${'\0'.repeat(4096)}${line('three\n')}`,
      line('\u001b[31mfour\u0007\n'),
      line(`${'5'.repeat(2 ** 20)}\n`),
      '\n',
      '\r\n',
      line('six\u2028seven\u0085\n'),
    ];
    await writeFile(log, parts.join(''));
    await appendFile(log, Buffer.from([0xc3, 0x28, 0xa0, 0x0a]));
    expect(resultOf(await collectLogs(folder), 'syslog_events')).toMatchObject({ verdict: 'complete', records: 9 });
    const stored = await storedIn(folder);
    expect(stored.filter((_, n) => n !== 4)).toEqual([
      ...['one', 'two', 'three', '\u001b[31mfour\u0007'].map(line),
      ...['', '', line('six\u2028seven\u0085'), '\uFFFD(\uFFFD'],
    ]);
    expect(stored[4]).toHaveLength(65_536);
  });

  test('a line that comes in three pieces is one event, and dates of lines without stamps outlast a run', async () => {
    const { folder, log } = await logFolder();
    for (const piece of ['Oct 11 22:14:15 host app: ha', 'lf a li', 'ne\n  at one\n', '  at two\n']) {
      await appendFile(log, piece);
      await collectLogs(folder);
    }
    expect(await storedIn(folder)).toEqual(['Oct 11 22:14:15 host app: half a line', '  at one', '  at two']);
    const whole = await logFolder();
    await copyFile(log, whole.log);
    await collectLogs(whole.folder);
    expect(await datesIn(folder)).toEqual(await datesIn(whole.folder));
    expect(new Set(await datesIn(folder)).size).toBe(1);
  });

  test('a line of RFC 5424 without a stamp dates no line of a later run', async () => {
    const { folder, log } = await logFolder();
    const days = ['2026-03-01T00:00:00.000Z', '2026-03-02T00:00:00.000Z'];
    for (const day of days) {
      await appendFile(log, '<13>1 - host app - - - without a stamp\n');
      await utimes(log, new Date(day), new Date(day));
      await collectLogs(folder);
    }
    expect(await datesIn(folder)).toEqual(days);
  });

  test('however many rotated files there are, what was not read of them stays so', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, textOf(0, 1));
    for (let n = 1; n <= 100; n += 1) await writeFile(`${log}.${n}`, textOf(n, n + 1));
    expect(resultOf(await collectLogs(folder), 'syslog_events').records).toBe(1);
    expect(resultOf(await collectLogs(folder), 'syslog_events').records).toBe(0);
  });

  test('however many rotated files there are, each is read once', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, textOf(0, 1));
    for (let n = 1; n <= 100; n += 1) await writeFile(`${log}.${n}`, textOf(n, n + 1));
    const env = { SYSLOG_INCLUDE_ROTATED: 'true' };
    expect(resultOf(await collectLogs(folder, env), 'syslog_events').records).toBe(101);
    expect(resultOf(await collectLogs(folder, env), 'syslog_events').records).toBe(0);
  });

  test('how far reading is behind is told by what was written meanwhile, and grows while a store is away', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, textOf(0, 10));
    const first = resultOf(await collectLogs(folder), 'syslog_events');
    expect(first.lag).toEqual({ bytes: 0, lines: 0, seconds: 0 });
    await appendFile(log, `${textOf(10, 15)}half`);
    await writeFile(join(folder, 'blocked'), '');
    const blocked = { STORE_FILE_EVENTS: join(folder, 'blocked', '%UUID.ndjson'), CYBER_COLLECT_OUTBOX_MIB: '0' };
    const later = new Date(Date.now() + 60_000);
    await utimes(log, later, later);
    const behind = resultOf(await collectLogs(folder, blocked), 'syslog_events').lag;
    expect(behind).toMatchObject({ bytes: textOf(10, 15).length + 4, lines: 5 });
    expect(behind?.seconds).toBeGreaterThan(30);
    await rename(log, `${log}.1`);
    await writeFile(log, textOf(15, 17));
    const last = resultOf(await collectLogs(folder, blocked), 'syslog_events').lag;
    expect(last).toMatchObject({ lines: 7 });
    expect(resultOf(await collectLogs(folder), 'syslog_events').lag).toMatchObject({ bytes: 4, lines: 0 });
  });

  test('a store that fails, without an outbox, leaves the position, so the next run brings the same events', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, textOf(0, 10));
    await writeFile(join(folder, 'blocked'), '');
    const blocked = { STORE_FILE_EVENTS: join(folder, 'blocked', '%UUID.ndjson'), CYBER_COLLECT_OUTBOX_MIB: '0' };
    expect((await collectLogs(folder, blocked)).exit_code).toBe(6);
    expect(resultOf(await collectLogs(folder), 'syslog_events').records).toBe(10);
  });

  test('a store that fails has its events wait in the outbox, and gets them once', async () => {
    const { folder, log } = await logFolder();
    await writeFile(log, textOf(0, 10));
    await writeFile(join(folder, 'blocked'), '');
    const blocked = { STORE_FILE_EVENTS: join(folder, 'blocked', '%UUID.ndjson') };
    expect((await collectLogs(folder, blocked)).exit_code).toBe(6);
    await rm(join(folder, 'blocked'));
    await writeFile(log, textOf(0, 12));
    const summary = await collectLogs(folder, blocked);
    expect(summary.exit_code).toBe(0);
    expect(resultOf(summary, 'syslog_events').records).toBe(2);
    const texts = await Promise.all(
      (await readdir(join(folder, 'blocked'))).map((name) => readFile(join(folder, 'blocked', name), 'utf8')),
    );
    expect(texts.map((text) => text.split('\n').length - 1).sort((a, b) => a - b)).toEqual([2, 10]);
  });

  test('what cannot be read is said in one sentence', async () => {
    const { folder, log } = await logFolder();
    expect(resultOf(await collectLogs(folder), 'syslog_events').reason).toContain('matches no file');
    const accounting = Buffer.concat(
      Array.from({ length: 20 }, () => Buffer.from('\u0007\0\0\0root\0\0\0\0\0\0pts/0\0\0\0')),
    );
    for (const bytes of [Buffer.alloc(5000, 1), Buffer.alloc(5000), accounting]) {
      await writeFile(log, bytes);
      expect(resultOf(await collectLogs(folder), 'syslog_events').reason).toContain('is no text file');
    }
    await writeFile(log, 'x\n');
    await chmod(log, 0);
    const result = resultOf(await collectLogs(folder), 'syslog_events');
    if (process.getuid?.() === 0) expect(result.verdict).toBe('complete');
    else expect(result).toMatchObject({ verdict: 'denied', mend: expect.stringContaining('adm') });
  });
});

// How fast indicators are matched, side by side with `rg -F -f` on the same files, and whether both find the same lines.
// node test/bench/match.mjs [MiB of log] [indicators] [--detect]: the matcher alone, or the whole command from files.
import { spawnSync } from 'node:child_process';
import {
  createReadStream,
  createWriteStream,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const whole = process.argv.includes('--detect');
const [mib = 200, count = 100_000] = process.argv
  .slice(2)
  .filter((word) => /^\d+$/.test(word))
  .map(Number);
const MIXES = { words: [40, 30, 20, 10, 0], 'words and texts': [35, 25, 20, 10, 10], texts: [0, 0, 0, 0, 100] };
const PLANTED = 0.002;
const RUNS = 3;

let state = 42;
function random(below) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}
const letters = 'abcdefghijklmnopqrstuvwxyz';
const word = (least, most) =>
  Array.from({ length: least + random(most - least + 1) }, () => letters[random(26)]).join('');
const hex = (length) => Array.from({ length }, () => '0123456789abcdef'[random(16)]).join('');
const octet = () => random(256);
// Three digits an octet: for rg, which knows no words, a shorter address would be found within a longer one.
const bad = [
  () => `${100 + random(100)}.${100 + random(156)}.${100 + random(156)}.${100 + random(156)}`,
  () => `${word(8, 14)}.${['com', 'net', 'info', 'xyz'][random(4)]}`,
  () => hex([32, 40, 64][random(3)]),
  () => `${word(8, 12)}.${['org', 'top'][random(2)]}/${word(5, 9)}/${word(6, 12)}`,
  () => `${word(5, 9)} --${word(4, 8)}=${word(4, 9)}`,
];
const kinds = ['address', 'domain', 'hash', 'url', 'string'];

function indicatorsOf(mix) {
  const found = new Set();
  mix.forEach((share, kind) => {
    for (let made = 0; made < (count * share) / 100; made += 1) found.add(`${kinds[kind]} ${bad[kind]()}`);
  });
  return [...found].map((entry) => ({ kind: entry.split(' ', 1)[0], value: entry.slice(entry.indexOf(' ') + 1) }));
}

function lineOf(indicators) {
  const ip = () => `10.${octet()}.${octet()}.${octet()}`;
  const planted = Math.random() < PLANTED ? ` ${indicators[random(indicators.length)].value}` : '';
  const at = `Mar ${1 + random(28)} ${10 + random(14)}:${10 + random(50)}:${10 + random(50)} web${random(50)}`;
  const lines = [
    () =>
      `sshd[${random(9e4)}]: Failed password for invalid user ${word(4, 8)} from ${ip()} port ${random(65535)} ssh2`,
    () =>
      `nginx: ${ip()} - - "GET /${word(3, 8)}/${word(3, 9)}.html HTTP/1.1" 200 ${random(99999)} "https://www.${word(5, 9)}.de/"`,
    () =>
      `named[${random(9e4)}]: client @0x7f ${ip()}#${random(65535)} query: ${word(3, 6)}.${word(5, 9)}.example IN A + (${ip()})`,
    () =>
      `kernel: [UFW BLOCK] IN=eth0 OUT= MAC=${hex(2)}:${hex(2)}:${hex(2)} SRC=${ip()} DST=${ip()} LEN=${random(1500)} TTL=64`,
    () =>
      `app[${random(9e4)}]: user=${word(4, 8)} session=${hex(24)} action=${word(4, 8)} took ${random(900)} ms, status ok`,
  ];
  return `${at} ${lines[random(lines.length)]()}${planted}\n`;
}

async function writeLog(path, indicators) {
  const out = createWriteStream(path);
  for (let bytes = 0; bytes < mib * 2 ** 20; ) {
    const lines = Array.from({ length: 2000 }, () => lineOf(indicators)).join('');
    bytes += lines.length;
    if (!out.write(lines)) await new Promise((resolve) => out.once('drain', resolve));
  }
  await new Promise((resolve) => out.end(resolve));
}

async function match(log, list) {
  const { loadIndicators } = await import(join(root, 'dist/detect/indicators.js'));
  const { matcherOf, matchLines } = await import(join(root, 'dist/detect/matcher.js'));
  const started = performance.now();
  const { indicators, refused } = await loadIndicators(list);
  const matcher = await matcherOf(indicators);
  const ready = performance.now();
  const lines = [];
  for await (const { line } of matchLines(createReadStream(log, { highWaterMark: 2 ** 20 }), matcher)) lines.push(line);
  const done = performance.now();
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  const cpu = (userCPUTime + systemCPUTime) / 1e6;
  return { load: (ready - started) / 1000, wall: (done - started) / 1000, cpu, rss: maxRSS / 1024, refused, lines };
}

function measured(command, args) {
  const started = performance.now();
  const { stdout, stderr, status } = spawnSync(command, args, { maxBuffer: 2 ** 30, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
  return { wall: (performance.now() - started) / 1000, stdout };
}

/** The whole command: lists, log, counts, alerts into a file, state. The lines are told by their offsets. */
function detect(log, list, folder) {
  const home = mkdtempSync(join(folder, 'run-'));
  const env = {
    ...{ PATH: process.env.PATH, HOME: home, SYSLOG_TIMEZONE: 'UTC' },
    ...{ STORE_FILE: join(home, '%TAG.ndjson'), STORE_FILE_EVENTS: join(home, '%TAG', '%UUID.ndjson') },
  };
  const bin = join(root, 'bin', 'cyber-collect.js');
  const args = ['--', bin, 'detect', '--from', `lines:${log}`, '--indicators', list, '-q', '-o', 'json'];
  const timed = spawnSync('/usr/bin/env', ['time', '-f', '%e %U %S %M', process.execPath, ...args], {
    ...{ cwd: home, env, encoding: 'utf8', maxBuffer: 2 ** 28 },
  });
  if (timed.status !== 0) throw new Error(timed.stderr);
  const [wall, user, system, rss] = timed.stderr.trim().split('\n').at(-1).split(' ').map(Number);
  const { alerts, events } = JSON.parse(timed.stdout);
  const folderOf = join(home, 'syslog_alerts');
  const found = readdirSync(folderOf).flatMap((name) =>
    readFileSync(join(folderOf, name), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  );
  const texts = found.map(({ data }) => data);
  return { wall, load: 0, cpu: user + system, rss: rss / 1024, refused: 0, alerts, events, lines: [...new Set(texts)] };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

async function compare(name, mix, folder) {
  const indicators = indicatorsOf(mix);
  const [log, list, plain] = [join(folder, 'log'), join(folder, 'list.csv'), join(folder, 'plain')];
  writeFileSync(list, `type,value\n${indicators.map(({ kind, value }) => `${kind},${value}`).join('\n')}\n`);
  writeFileSync(plain, `${indicators.map(({ value }) => value).join('\n')}\n`);
  await writeLog(log, indicators);
  const [ours, theirs] = [[], []];
  for (let run = 0; run < RUNS; run += 1) {
    if (whole) ours.push(detect(log, list, folder));
    else {
      const { stdout } = measured(process.execPath, [fileURLToPath(import.meta.url), '--child', log, list]);
      ours.push(JSON.parse(stdout));
    }
    const rg = measured('rg', ['-F', '-n', '--color=never', '-f', plain, log]);
    theirs.push({
      wall: rg.wall,
      lines: rg.stdout
        .split('\n')
        .slice(0, -1)
        .map((line) => (whole ? line.slice(line.indexOf(':') + 1) : Number(line.split(':', 1)[0]))),
    });
  }
  const linesOf = ([{ lines }]) => JSON.stringify(whole ? [...new Set(lines)].sort() : lines);
  const same = linesOf(ours) === linesOf(theirs);
  const [wall, other] = [median(ours.map((one) => one.wall)), median(theirs.map((one) => one.wall))];
  process.stdout.write(
    `${name}: ${indicators.length} indicators, ${mib} MiB, ${ours[0].lines.length} lines found, ` +
      `${same ? 'the same as rg' : `rg finds ${theirs[0].lines.length}: NOT THE SAME`}\n` +
      `  cyber-collect ${wall.toFixed(2)} s (${(mib / wall).toFixed(0)} MiB/s, of it ${ours[0].load.toFixed(2)} s to load), ` +
      `${ours[0].cpu.toFixed(2)} s CPU, ${ours[0].rss.toFixed(0)} MiB, refused ${ours[0].refused}\n` +
      `  rg -F -f      ${other.toFixed(2)} s (${(mib / other).toFixed(0)} MiB/s): ${((100 * other) / wall).toFixed(0)} % of its speed\n`,
  );
  if (!same) process.exitCode = 1;
}

if (process.argv[2] === '--child') {
  process.stdout.write(JSON.stringify(await match(process.argv[3], process.argv[4])));
} else {
  const folder = mkdtempSync(join(tmpdir(), 'cyber-collect-match-'));
  try {
    for (const [name, mix] of Object.entries(MIXES)) await compare(name, mix, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, copyFile, mkdir, mkdtemp, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const VERSION = '3.6.0';
const LEAST_JAVA = 21;
const run = promisify(execFile);

/** A real OpenSearch on loopback. */
export interface OpenSearchServer {
  readonly url: string;
  stop(): Promise<void>;
}

/** The server that TEST_OPENSEARCH_URL names, else one of our own, fetched from Maven Central once. */
export async function startOpenSearch(): Promise<OpenSearchServer> {
  const given = process.env.TEST_OPENSEARCH_URL;
  if (given !== undefined && given !== '') return { url: given, stop: async () => undefined };
  const home = await installed();
  const java = await javaHome();
  const folder = await mkdtemp(join(tmpdir(), 'cyber-collect-opensearch-'));
  const port = await freePort();
  await configure(home, folder, port, await freePort());
  const log = await open(join(folder, 'server.log'), 'w');
  // It refuses to run as root: in a user namespace of its own it is nobody, and the files stay ours.
  const as = process.getuid?.() === 0 ? ['unshare', '-U', '--map-user=65534', '--map-group=65534'] : ['env'];
  const [command = '', ...rest] = [...as, join(home, 'bin', 'opensearch')];
  const child = spawn(command, rest, {
    cwd: folder,
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
    env: {
      PATH: process.env.PATH ?? '',
      OPENSEARCH_PATH_CONF: join(folder, 'config'),
      OPENSEARCH_JAVA_HOME: java,
      OPENSEARCH_JAVA_OPTS: '-Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:-AlwaysPreTouch',
      OPENSEARCH_TMPDIR: folder,
    },
  });
  await log.close();
  const stop = async () => {
    await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  const url = `http://127.0.0.1:${port}`;
  try {
    await answering(child, url);
  } catch (error) {
    const said = await readFile(join(folder, 'server.log'), 'utf8').catch(() => '');
    await stop();
    throw new Error(`OpenSearch did not start: ${said.slice(-2000)}`, { cause: error });
  }
  return { url, stop };
}

async function answering(child: ChildProcess, url: string): Promise<void> {
  const until = Date.now() + 110_000;
  for (;;) {
    const ready = await fetch(`${url}/_cluster/health`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ready) return;
    if (child.exitCode !== null || Date.now() > until) throw new Error('no answer');
    await sleep(250);
  }
}

/** Ends the whole group: the script and the server it starts. */
async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  process.kill(-child.pid, 'SIGKILL');
  await ended;
}

async function installed(): Promise<string> {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'cyber-collect-tests');
  const home = join(cache, `opensearch-${VERSION}`);
  const there = await access(join(home, 'bin', 'opensearch')).then(
    () => true,
    () => false,
  );
  if (there) return home;
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'fetch-'));
  try {
    const artifact = `org.opensearch.distribution.integ-test-zip:opensearch:${VERSION}:zip`;
    const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy';
    await run('mvn', [
      '-q',
      '-B',
      `-Dmaven.repo.local=${folder}/m2`,
      goal,
      `-Dartifact=${artifact}`,
      `-DoutputDirectory=${folder}`,
    ]);
    await run('unzip', ['-q', join(folder, `opensearch-${VERSION}.zip`), '-d', join(folder, 'x')]);
    const [top = ''] = await readdir(join(folder, 'x'));
    await rename(join(folder, 'x', top), home);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return home;
}

async function javaHome(): Promise<string> {
  const places = await readdir('/usr/lib/jvm').catch(() => []);
  const homes = [process.env.JAVA_HOME, ...places.map((name) => join('/usr/lib/jvm', name))];
  for (const home of homes) {
    const release = home === undefined ? '' : await readFile(join(home, 'release'), 'utf8').catch(() => '');
    const version = /^JAVA_VERSION="(\d+)/m.exec(release)?.[1];
    if (home !== undefined && Number(version) >= LEAST_JAVA) return home;
  }
  throw new Error(`OpenSearch needs Java ${LEAST_JAVA} or newer: set JAVA_HOME`);
}

async function configure(home: string, folder: string, port: number, transport: number): Promise<void> {
  const config = join(folder, 'config');
  await mkdir(config);
  await copyFile(join(home, 'config', 'log4j2.properties'), join(config, 'log4j2.properties'));
  // Its log of garbage collections would lie in the home, and its agent needs files of the home to be writable.
  const options = await readFile(join(home, 'config', 'jvm.options'), 'utf8');
  const kept = options.split('\n').filter((line) => !/gc\.log|hs_err|HeapDump/.test(line));
  const agent = kept.map((line) => line.replace('-javaagent:agent/', `-javaagent:${home}/agent/`));
  await writeFile(join(config, 'jvm.options'), agent.join('\n'));
  const settings = {
    'cluster.name': 'test',
    'discovery.type': 'single-node',
    'http.host': '127.0.0.1',
    'http.port': port,
    'transport.host': '127.0.0.1',
    'transport.port': transport,
    'path.data': join(folder, 'data'),
    'path.logs': join(folder, 'logs'),
    'cluster.routing.allocation.disk.threshold_enabled': false,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  await writeFile(join(config, 'opensearch.yml'), `${lines.join('\n')}\n`);
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}

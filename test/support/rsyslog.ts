import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { delimiter, join } from 'node:path';
import { onTestFinished, vi } from 'vitest';
import { freePorts } from './broker.ts';

/** A real rsyslog that writes what it is sent into files of a folder. */
export interface Rsyslog {
  /** Where it listens, by UDP and by TCP. */
  readonly port: number;
  /** A connection for lines. */
  connect(): Promise<Socket>;
  /** Lets it open its files anew, as a rotation does. */
  reopen(): void;
  close(): Promise<void>;
}

/** The path of a program; a missing one is a failure, not a skip. */
export async function commandOf(name: string, install: string): Promise<string> {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  for (const path of folders.map((folder) => join(folder, name))) {
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  throw new Error(`there is no ${name}, which these tests need: ${install}`);
}

/** Starts it: programs called `new...` go to `new.log` as RFC 5424, the others to `old.log` as RFC 3164. */
export async function rsyslogInto(folder: string, state: string): Promise<Rsyslog> {
  const command = await commandOf('rsyslogd', 'apt-get install rsyslog');
  const [port = 0] = await freePorts(1);
  const config = join(state, 'rsyslog.conf');
  await writeFile(config, configured(folder, state, port));
  const child = spawn(command, ['-n', '-f', config, '-i', join(state, 'rsyslog.pid')], { stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  const dial = async () => {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return socket;
  };
  const first = await vi.waitFor(dial, { timeout: 30_000, interval: 50 });
  first.destroy();
  return { port, connect: dial, reopen: () => void child.kill('SIGHUP'), close: () => ended(child) };
}

function configured(folder: string, state: string, port: number): string {
  return `
global(workDirectory="${state}")
module(load="imudp")
module(load="imtcp")
ruleset(name="files") {
  if $programname startswith "new" then {
    action(type="omfile" file="${folder}/new.log" template="RSYSLOG_SyslogProtocol23Format")
  } else {
    action(type="omfile" file="${folder}/old.log" template="RSYSLOG_TraditionalFileFormat")
  }
}
input(type="imudp" address="127.0.0.1" port="${port}" ruleset="files")
input(type="imtcp" address="127.0.0.1" port="${port}" ruleset="files")
`;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

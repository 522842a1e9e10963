import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';

/** A mail server on loopback that remembers what it was told. */
export interface ScriptedMail {
  readonly port: number;
  /** Every command, as it came. */
  readonly commands: readonly string[];
  /** Whole messages. */
  readonly messages: readonly string[];
}

/** Answers a command with another line than `250 ok`. */
export type Reply = (command: string) => string | undefined;

/** Takes mail until the test is over; one that is silent says nothing at all. */
export async function serveMail(reply: Reply = () => undefined, silent = false): Promise<ScriptedMail> {
  const commands: string[] = [];
  const messages: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    if (silent) return;
    let message: string[] | undefined;
    socket.write('220 mail.example ready\r\n');
    createInterface({ input: socket }).on('line', (line) => {
      if (message !== undefined) {
        if (line !== '.') return void message.push(line);
        messages.push(message.join('\n'));
        message = undefined;
        return void socket.write('250 taken\r\n');
      }
      commands.push(line);
      const said = reply(line);
      if (said !== undefined) return void socket.write(`${said}\r\n`);
      if (/^EHLO/i.test(line)) return void socket.write('250-mail.example\r\n250 AUTH PLAIN\r\n');
      if (/^AUTH/i.test(line)) return void socket.write('235 welcome\r\n');
      if (/^QUIT/i.test(line)) return void socket.end('221 bye\r\n');
      if (/^DATA/i.test(line)) {
        message = [];
        return void socket.write('354 go on\r\n');
      }
      socket.write('250 ok\r\n');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { port: (server.address() as AddressInfo).port, commands, messages };
}

// Writes every connection, datagram and name that the process asks for to the file that CONNECTIONS names, a line each.
import dgram from 'node:dgram';
import dns from 'node:dns';
import { appendFileSync } from 'node:fs';
import net from 'node:net';

const file = process.env.CONNECTIONS ?? '';
const note = (line) => appendFileSync(file, `${line}\n`);

const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...args) {
  const given = Array.isArray(args[0]) ? args[0][0] : args[0];
  const { host = 'localhost', port, path } = typeof given === 'object' ? given : { port: given, host: args[1] };
  note(`tcp ${path ?? `${host}:${port}`}`);
  return connect.apply(this, args);
};

for (const name of ['send', 'connect']) {
  const original = dgram.Socket.prototype[name];
  dgram.Socket.prototype[name] = function (...args) {
    note(`udp ${args.filter((arg) => typeof arg !== 'object' && typeof arg !== 'function').join(':')}`);
    return original.apply(this, args);
  };
}

const { lookup } = dns;
dns.lookup = (host, ...rest) => {
  if (net.isIP(host) === 0) note(`name ${host}`);
  return lookup(host, ...rest);
};

import { readFile, writeFile } from 'node:fs/promises';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer as createTls } from 'node:tls';
import { crc32 } from 'node:zlib';
import cassandra from 'cassandra-driver';
import { onTestFinished } from 'vitest';
import type { Certificates } from './certificates.ts';
import { needed } from './needed.ts';

/** Who may do anything on the real server. */
export const login = {
  point: needed('TEST_CASSANDRA'),
  dc: needed('TEST_CASSANDRA_DATACENTER'),
  user: needed('TEST_CASSANDRA_USER'),
  password: needed('TEST_CASSANDRA_PASSWORD'),
};

/** The variables with which the store reaches a keyspace of the real server, and makes it. */
export function variablesOf(keyspace: string): Readonly<Record<string, string>> {
  return {
    STORE_CASSANDRA_CONTACT_POINTS: login.point,
    STORE_CASSANDRA_LOCAL_DC: login.dc,
    STORE_CASSANDRA_USERNAME: login.user,
    STORE_CASSANDRA_PASSWORD: login.password,
    STORE_CASSANDRA_KEYSPACE: keyspace,
    STORE_CASSANDRA_CREATE: 'true',
  };
}

/** Takes a keyspace away and ends the client. */
export async function dropKeyspace(client: cassandra.Client, keyspace: string): Promise<void> {
  await client.execute(`DROP KEYSPACE IF EXISTS ${keyspace}`, [], { prepare: false, readTimeout: 60_000 });
  await client.shutdown();
}

/** A client for what a test looks at; to be shut down. */
export function admin(): cassandra.Client {
  return new cassandra.Client({
    contactPoints: [login.point],
    localDataCenter: login.dc,
    credentials: { username: login.user, password: login.password },
    queryOptions: { consistency: cassandra.types.consistencies.localQuorum, prepare: true, fetchSize: 2000 },
  });
}

/** The newest whole upload of a tag as the documentation tells readers to read it; undefined when there is none. */
export async function newestUpload(
  client: cassandra.Client,
  keyspace: string,
  tag: string,
  tenancy = 'acme',
): Promise<readonly string[] | undefined> {
  for (;;) {
    const listed = await client.execute(
      `SELECT upload_id, buckets, records FROM ${keyspace}.cyber_collect_uploads WHERE tenancy = ? AND tag = ? LIMIT 1`,
      [tenancy, tag],
    );
    const upload = listed.first();
    if (upload === null || upload === undefined) return undefined;
    const records: string[] = [];
    for (let bucket = 0; bucket < upload.buckets; bucket += 1) {
      const rows = await client.execute(
        `SELECT part, json_data FROM ${keyspace}.cyber_collect_records
         WHERE tenancy = ? AND tag = ? AND upload_id = ? AND bucket = ?`,
        [tenancy, tag, upload.upload_id, bucket],
      );
      for await (const { part, json_data } of rows) {
        if (part === 0) records.push(json_data);
        else records.push(`${records.pop()}${json_data}`);
      }
    }
    // Fewer than are listed: it was replaced and removed meanwhile, so there is a newer one.
    if (records.length === Number(upload.records)) return records;
  }
}

/** What a door does to what passes it. */
interface DoorChoice {
  /** Speaks TLS to those who come. */
  readonly tls?: Certificates;
  /** Breaks every connection each time so many bytes have gone in. */
  readonly breakAfter?: readonly number[];
}

/** A way to the real server through a port of its own, until the test is over. */
export async function doorTo(
  point: string,
  { tls, breakAfter = [] }: DoorChoice,
): Promise<{ readonly point: string; readonly broken: () => number }> {
  const [host, port] = point.split(':');
  const open = new Set<Socket>();
  const breaks = [...breakAfter];
  let bytes = 0;
  let broken = 0;
  const pass = (from: Socket) => {
    const to = connect(Number(port), host ?? '');
    for (const socket of [from, to]) {
      open.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        open.delete(socket);
        from.destroy();
        to.destroy();
      });
    }
    from.on('data', (chunk) => {
      bytes += chunk.length;
      if (bytes < (breaks[0] ?? Number.POSITIVE_INFINITY)) return;
      breaks.shift();
      broken += 1;
      for (const socket of open) socket.destroy();
    });
    from.pipe(to).pipe(from);
  };
  const server = tls === undefined ? createServer(pass) : createTls({ cert: tls.cert, key: tls.key }, pass);
  const address = await listening(server);
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return { point: `127.0.0.1:${address}`, broken: () => broken };
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A secure connect bundle that leads, over a metadata service and a proxy as Astra has them, to the real server. */
export async function bundleFor(
  { point, dc }: Pick<typeof login, 'point' | 'dc'>,
  certificates: Certificates,
  folder: string,
): Promise<string> {
  const { cert, key, caFile } = certificates;
  const ca = await readFile(caFile, 'utf8');
  const door = await doorTo(point, { tls: certificates });
  const host = await hostId();
  const service = createHttps({ cert, key, ca, requestCert: true, rejectUnauthorized: true }, (_, response) => {
    const info = { type: 'sni_proxy', local_dc: dc, contact_points: [host], sni_proxy_address: door.point };
    response.end(JSON.stringify({ version: 1, region: 'test', contact_info: info }));
  });
  const port = await listening(service);
  onTestFinished(() => {
    service.closeAllConnections();
    service.close();
  });
  const config = JSON.stringify({ host: 'localhost', port });
  const path = join(folder, 'secure-connect-db.zip');
  await writeFile(path, zipOf({ 'config.json': config, 'ca.crt': ca, cert, key }));
  return path;
}

async function hostId(): Promise<string> {
  const client = admin();
  try {
    return String((await client.execute('SELECT host_id FROM system.local')).first()?.host_id);
  } finally {
    await client.shutdown();
  }
}

/** A zip of files that are not compressed. */
function zipOf(files: Readonly<Record<string, string>>): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, text] of Object.entries(files)) {
    const content = Buffer.from(text);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(content.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, Buffer.from(name), content]);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\0'), common, place, Buffer.from(name)]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(central.length, 4);
  end.writeUInt16LE(central.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...locals, directory, Buffer.from('PK\x05\x06'), end]);
}

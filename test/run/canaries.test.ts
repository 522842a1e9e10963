import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { run } from '../../src/commands/run.ts';
import type { FaultName } from '../../src/simulator/faults.ts';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { formsOf } from '../support/forms.ts';
import { filesBelow, sessionOf, temporaryFolder } from '../support/run.ts';

/** Everything of every store, and of the program, that is a secret; the servers are not there. */
const SECRETS = {
  STORE_POSTGRES_PASSWORD: 'canary-postgres-p@ss/w+rd="x"',
  AWS_ACCESS_KEY_ID: 'CANARYAKIDEXAMPLE0001',
  AWS_SECRET_ACCESS_KEY: 'canary/secret+access/key=of-aws',
  AWS_SESSION_TOKEN: 'canary-session//token==',
};

/** A webhook that remembers what it was told. */
async function webhook() {
  const heard: string[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    heard.push(body);
    response.end();
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  onTestFinished(() => new Promise<void>((closed) => void server.close(() => closed())));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/services/canary-hook-9Zx`, heard };
}

const FAULTS: readonly (FaultName | 'none')[] = [
  'none',
  '401-forever',
  '403',
  'html-forever',
  'truncated',
  'reset',
  'redirect-foreign',
];

describe('no secret of a store, of the vendor or of a webhook stands anywhere, in eight encodings', () => {
  test.each(FAULTS)(
    'while the vendor does this: %s',
    async (fault) => {
      const vendor = await startVendor(okta, {
        scale: 30,
        ...(fault === 'none' ? {} : { faults: [{ name: fault, resource: 'users' }] }),
      });
      onTestFinished(() => vendor.close());
      const hook = await webhook();
      const folder = await temporaryFolder();
      const env = {
        ...vendor.env,
        ...SECRETS,
        STORE_POSTGRES_HOST: '127.0.0.1',
        STORE_POSTGRES_PORT: '1',
        STORE_POSTGRES_USER: 'collector',
        STORE_AWS_S3_BUCKET: 'acme',
        STORE_AWS_S3_ENDPOINT: 'http://127.0.0.1:1',
        STORE_AWS_S3_KEY: 'data/%TAG.json',
        SLACK_WEBHOOK_URL: hook.url,
      };
      const { session, said, unredacted, printed } = await sessionOf(folder, { env });
      const code = await run(
        {
          envFile: [],
          logFormat: 'text',
          only: ['okta.users', 'okta.groups'],
          exclude: [],
          concurrency: 4,
          deadline: 60,
          acceptShrink: [],
          output: 'json',
        },
        session,
      );
      expect([3, 6]).toContain(code);
      const texts = new Map([
        ['the log', said.join('\n')],
        ['the log before redaction', unredacted.join('\n')],
        ['what was printed', printed.join('\n')],
        ['Slack', hook.heard.join('\n')],
      ]);
      for (const path of await filesBelow(folder)) texts.set(path, await readFile(path, 'latin1'));
      expect(hook.heard.length).toBeGreaterThan(0);
      const canaries = [...Object.values(SECRETS), vendor.env.OKTA_TOKEN ?? '', 'canary-hook-9Zx'].flatMap(formsOf);
      const found = [...texts].filter(([, text]) => canaries.some((form) => text.includes(form)));
      expect(found.map(([where]) => where)).toEqual([]);
      expect([...texts.keys()].some((path) => path.startsWith(join(folder, 'state', 'outbox')))).toBe(true);
    },
    60_000,
  );
});

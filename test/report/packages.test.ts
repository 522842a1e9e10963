import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { startVendor } from '../../src/simulator/vendor.ts';
import okta from '../../src/simulator/vendor_okta.ts';
import { root } from '../support/build.ts';
import { temporaryFolder } from '../support/run.ts';

const MAIL = {
  NOTIFY_SMTP_URL: 'smtp://127.0.0.1:1',
  NOTIFY_EMAIL_FROM: 'a@x.example',
  NOTIFY_EMAIL_TO: 'b@x.example',
};

test.each([
  ['nodemailer', MAIL, 'npm install nodemailer'],
  ['@opentelemetry/', { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }, 'npm install @opentelemetry/api'],
])(
  'where %s is not installed, it is missed only when it is needed, and before any vendor is called',
  async (...row) => {
    const [name, settings, mend] = row;
    const vendor = await startVendor(okta, { scale: 5 });
    onTestFinished(() => vendor.close());
    const hook = pathToFileURL(join(root, 'test', 'support', 'without.mjs')).href;
    const run = async (env: Readonly<Record<string, string>>) => {
      const args = ['--import', hook, '--', join(root, 'bin', 'cyber-collect.js'), 'run', '--only', 'okta.users'];
      const child = spawn(process.execPath, args, {
        cwd: await temporaryFolder(),
        env: { PATH: process.env.PATH, WITHOUT: name, STORE_FILE: './%TAG.json', ...vendor.env, ...env },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      onTestFinished(() => void child.kill('SIGKILL'));
      let stderr = '';
      child.stderr.on('data', (text) => {
        stderr += text;
      });
      const [code] = await once(child, 'close');
      return { code, stderr };
    };
    const missing = await run(settings);
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining('which is not installed') });
    expect(missing.stderr).toContain(mend);
    expect(vendor.requests).toEqual([]);
    expect((await run({})).code).toBe(0);
  },
);

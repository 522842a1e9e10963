import { CollectError } from '../errors.ts';
import { details, headline, isWorth } from './news.ts';
import type { Channel, NotifyMeans } from './notify.ts';

/** Milliseconds of silence after which a mail server is given up. */
const SILENCE = 3000;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/**
 * E-mail at the end of runs, if a mail server is set.
 * @throws {CollectError} config where nodemailer is not installed
 */
export async function openMail({ program, redactor }: NotifyMeans): Promise<Channel | undefined> {
  const { NOTIFY_SMTP_URL: server, NOTIFY_EMAIL_FROM: from, NOTIFY_EMAIL_TO: to, NOTIFY_ON: occasion } = program;
  if (server === undefined || from === undefined || to === undefined) return undefined;
  const { createTransport } = await import('nodemailer').catch((cause) => {
    throw new CollectError('config', 'NOTIFY_SMTP_URL is set, but e-mail needs nodemailer, which is not installed', {
      mend: 'npm install nodemailer',
      cause,
    });
  });
  const url = new URL(server);
  redactor.add(decodeURIComponent(url.password));
  const open = LOOPBACK.test(url.hostname) || program.CYBER_COLLECT_ALLOW_HTTP;
  const transport = createTransport({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    secure: url.protocol === 'smtps:',
    requireTLS: url.protocol === 'smtp:' && !open,
    ...(url.port === '' ? {} : { port: Number(url.port) }),
    ...(url.username === ''
      ? {}
      : { auth: { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) } }),
    connectionTimeout: SILENCE,
    greetingTimeout: SILENCE,
    socketTimeout: SILENCE,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return {
    name: 'e-mail',
    wants: (news, routine) => !routine && news.event !== 'run.started' && isWorth(news, occasion),
    async send(news) {
      const subject = redactor.redact(headline(news));
      const lines = [headline(news), '', ...details(news)];
      const text = redactor.redact(lines.join('\n'));
      const headers = { 'Auto-Submitted': 'auto-generated' };
      await transport.sendMail({ from, to: [...to], subject, text, headers });
    },
  };
}

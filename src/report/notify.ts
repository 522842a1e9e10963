import { request } from 'undici';
import type { programShape } from '../config/program.ts';
import type { Values } from '../config/setting.ts';
import type { Plan } from '../run/activate.ts';
import type { RunSummary } from '../run/summary.ts';
import type { Log } from './log.ts';
import type { Redactor } from './redact.ts';

/** What is told. */
export type News = { readonly started: Plan } | { readonly finished: RunSummary };

const PATIENCE = 10_000;

/** Tells Slack of a run's start or end, if a webhook is set; one that is down never fails a run. */
export async function notifySlack(
  program: Values<typeof programShape>,
  redactor: Redactor,
  log: Log,
  news: News,
): Promise<void> {
  const webhook = program.SLACK_WEBHOOK_URL;
  if (webhook === undefined) return;
  const text = redactor.redact('started' in news ? startText(news.started) : endText(news.finished));
  try {
    const { statusCode, body } = await request(webhook, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ text }),
      signal: AbortSignal.timeout(PATIENCE),
    });
    await body.dump();
    if (statusCode >= 300) log('WARNING', 'notify.failed', `Slack was not told: its webhook answered ${statusCode}`);
  } catch (error) {
    log(
      'WARNING',
      'notify.failed',
      `Slack was not told: ${(error as { code?: string }).code ?? (error as Error).name}`,
    );
  }
}

function startText(plan: Plan): string {
  const names = plan.collectors.map(({ collector }) => collector.name).join(', ');
  return `cyber-collect starts for ${plan.tenancy}: ${names === '' ? 'nothing is configured' : names}`;
}

function endText(summary: RunSummary): string {
  const good = summary.datasets.filter(({ verdict }) => verdict === 'complete' || verdict === 'empty');
  const lines = summary.datasets
    .filter((dataset) => !good.includes(dataset))
    .map(
      ({ tag, verdict, reason, mend }) =>
        `- ${tag}: ${verdict}: ${reason}${mend === undefined ? '' : `. To mend: ${mend}`}`,
    );
  const failed = summary.datasets.flatMap(({ tag, stores }) =>
    stores.filter(({ error }) => error !== undefined).map(({ store, error }) => `- ${tag}: ${store}: ${error}`),
  );
  const problems = summary.problems.map(({ where, message, mend }) => `- ${where}: ${message}. To mend: ${mend}`);
  const head = `cyber-collect ended for ${summary.tenancy} with exit code ${summary.exit_code}: ${good.length} of ${summary.datasets.length} datasets complete`;
  return [head, ...lines, ...failed, ...problems].join('\n');
}

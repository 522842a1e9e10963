import { baseUrl, integer, list, secret, setting, text } from '../config/setting.ts';
import { staticHeaders } from '../http/auth.ts';
import type { Rule } from '../http/retry.ts';
import { exported } from './_tenableio.ts';
import { defineCollector } from './collector.ts';

/** 2000-01-01: without a date, findings older than 30 days are left out. */
const EVER = 946_684_800;

/** Web App Scanning is a product of its own. */
const UNLICENSED: Rule = {
  status: 403,
  as: 'unlicensed',
  because: 'Web App Scanning is not licensed, or not for this user',
};

const NEEDS = 'Basic [16] with Can View on the assets, or the privilege VM_EXPLORE.EXPORT';

export default defineCollector({
  name: 'tenableio',
  title: 'Tenable Vulnerability Management',
  docs: 'https://developer.tenable.com/reference/exports',
  env: {
    TIO_ACCESS_KEY: secret('Access key of an API user'),
    TIO_SECRET_KEY: secret('Secret key of that user'),
    TIO_URL: setting(
      'Base URL; https://fedcloud.tenable.com for the government’s cloud',
      text('https://cloud.tenable.com'),
    ),
    TIO_POLL_SECONDS: setting('Seconds between two looks at an export', integer(10, 1, 600)),
    TIO_EXPORT_TIMEOUT: setting('Seconds after which an export that has not ended is given up', integer(7200, 1)),
    TIO_VULN_STATES: setting(
      'States of the findings to bring: OPEN, REOPENED, FIXED',
      list()
        .refine((states) => states.every((state) => /^(OPEN|REOPENED|FIXED)$/.test(state)), {
          message: 'must be some of OPEN, REOPENED, FIXED',
        })
        .default(['OPEN', 'REOPENED']),
    ),
  },
  aliases: { TENABLEIO_ACCESS_KEY: 'TIO_ACCESS_KEY', TENABLEIO_SECRET_KEY: 'TIO_SECRET_KEY' },
  http: ({ TIO_URL, TIO_ACCESS_KEY, TIO_SECRET_KEY }) => ({
    baseUrl: baseUrl(TIO_URL),
    auth: staticHeaders({ 'x-apikeys': `accessKey=${TIO_ACCESS_KEY};secretKey=${TIO_SECRET_KEY}` }),
  }),
  resources: {
    assets: {
      about: 'Assets, licensed or not',
      path: '/assets/export',
      method: 'POST',
      id: 'id',
      needs: NEEDS,
      probe: { path: '/assets/export/status' },
      resumes: true,
      collect: (context) => exported(context, '/assets/export', { chunk_size: 1000, filters: {} }),
    },
    vulnerabilities: {
      about: 'Vulnerabilities found on assets, licensed or not, in the states of TIO_VULN_STATES',
      path: '/vulns/export',
      method: 'POST',
      id: ['asset.uuid', 'plugin.id', 'port.port', 'port.protocol'],
      needs: NEEDS,
      probe: { path: '/vulns/export/status' },
      resumes: true,
      collect: (context) =>
        exported(context, '/vulns/export', {
          num_assets: 500,
          include_unlicensed: true,
          filters: { state: [...context.settings.TIO_VULN_STATES], last_found: EVER },
        }),
    },
    findings: {
      about: 'Results of compliance audits',
      path: '/compliance/export',
      method: 'POST',
      id: ['asset_uuid', 'plugin_id', 'check_id', 'check_name', 'audit_file'],
      // A check may run once for each database of a host.
      repeats: true,
      needs: NEEDS,
      probe: { path: '/compliance/export/status' },
      resumes: true,
      collect: (context) => exported(context, '/compliance/export', { num_findings: 5000, filters: {} }),
    },
    was: {
      about: 'Findings of Web App Scanning, in the states of TIO_VULN_STATES',
      path: '/was/v1/export/vulns',
      method: 'POST',
      id: 'finding_id',
      needs: NEEDS,
      probe: { path: '/was/v1/export/vulns/status', errors: [UNLICENSED] },
      resumes: true,
      collect: (context) =>
        exported(
          context,
          '/was/v1/export/vulns',
          {
            num_assets: 500,
            include_unlicensed: true,
            filters: { state: [...context.settings.TIO_VULN_STATES], since: EVER },
          },
          [UNLICENSED],
        ),
    },
  },
});

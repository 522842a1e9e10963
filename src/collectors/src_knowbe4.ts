import { baseUrl, choice, optional, secret, setting } from '../config/setting.ts';
import { staticHeaders } from '../http/auth.ts';
import { limit } from '../http/pace.ts';
import { either, eitherBody } from './_knowbe4.ts';
import { defineCollector } from './collector.ts';

const NEEDS = 'a Reporting API token, of a Platinum or Diamond plan';

/** What all lists have. */
const listed = { query: { cursor: 0, per_page: 500 }, split: eitherBody, needs: NEEDS } as const;

export default defineCollector({
  name: 'knowbe4',
  title: 'KnowBe4 Security Awareness Training',
  docs: 'https://developer.knowbe4.com/rest/reporting',
  env: {
    KNOWBE4_TOKEN: secret('Reporting API token'),
    KNOWBE4_REGION: setting('Where the account is: us, eu, ca, uk or de', choice(['us', 'eu', 'ca', 'uk', 'de'], 'us')),
    KNOWBE4_ENDPOINT: setting('URL of the API in place of the region’s; what comes behind /v1 is left out', optional()),
  },
  http: ({ KNOWBE4_TOKEN, KNOWBE4_REGION, KNOWBE4_ENDPOINT }) => ({
    baseUrl: baseUrl((KNOWBE4_ENDPOINT ?? `https://${KNOWBE4_REGION}.api.knowbe4.com`).replace(/\/v1(\/.*)?$/, '')),
    auth: staticHeaders({ authorization: `Bearer ${KNOWBE4_TOKEN}` }),
    paginate: either,
    pace: [limit(4, 1), limit(50, 60)],
  }),
  errors: [
    { status: 401, as: 'credentials', because: 'the token is not valid, or not in this region' },
    { status: 403, as: 'denied', because: 'the plan has no Reporting API, or the token may not read this' },
    // A burst is forgiven after about five minutes.
    { status: 429, as: 'throttled', wait: 300 },
    { status: 400, body: /cursor/i, as: 'expired', because: 'the cursor has expired' },
  ],
  resources: {
    enrollments: {
      ...listed,
      about: 'Trainings that people are enrolled in, and how far they are',
      path: '/v1/training/enrollments',
      id: 'enrollment_id',
    },
    training_campaigns: {
      ...listed,
      about: 'Training campaigns, whatever their status',
      path: '/v1/training/campaigns',
      id: 'campaign_id',
    },
    users: {
      ...listed,
      about: 'People, active or archived, with their risk score',
      path: '/v1/users',
      id: 'id',
    },
    psts: {
      ...listed,
      about: 'Phishing security tests with their counts',
      path: '/v1/phishing/security_tests',
      id: 'pst_id',
    },
    pst_recipients: {
      ...listed,
      about: 'What each recipient of a phishing security test did',
      each: 'psts',
      path: '/v1/phishing/security_tests/{pst_id}/recipients',
      keep: { _pst_id: 'pst_id' },
      id: ['_pst_id', 'recipient_id'],
      errors: [{ status: 404, as: 'empty' }],
    },
  },
});

import { choice, integer, optional, secret, setting, text } from '../config/setting.ts';
import { queried, queryApi } from './_azure_monitor.ts';
import { duration, moment } from './_log_search.ts';
import { defineCollector } from './collector.ts';

export default defineCollector({
  name: 'azure_monitor',
  title: 'Azure Monitor Logs and Microsoft Sentinel',
  docs: 'https://learn.microsoft.com/azure/azure-monitor/logs/api/overview',
  env: {
    AZURE_MONITOR_QUERY: setting(
      'Query in KQL; one that does not begin with a table places {{window}} behind where to be read in slices',
    ),
    AZURE_MONITOR_TENANT_ID: setting('Directory (tenant) ID of the app registration'),
    AZURE_MONITOR_CLIENT_ID: setting('Application (client) ID of the app registration'),
    AZURE_MONITOR_CLIENT_SECRET: secret('Client secret of the app registration'),
    AZURE_MONITOR_WORKSPACE_ID: setting('Workspace ID (a GUID) of the Log Analytics workspace', text('')),
    AZURE_MONITOR_RESOURCE_ID: setting('Resource ID whose logs are queried instead of a workspace', text('')),
    AZURE_MONITOR_TIMESPAN: setting('How far back the first run reads, an ISO 8601 duration', duration('P1D')),
    AZURE_MONITOR_START_TIME: setting('Where the first run begins instead, ISO 8601', moment()),
    AZURE_MONITOR_END_TIME: setting('Where reading ends for good, by TimeGenerated, ISO 8601', moment()),
    AZURE_MONITOR_TIMESTAMP_COLUMN: setting(
      'Column that tells what is new; without one the time at which rows came, so that late ones are not missed',
      text('').refine((column) => /^\w*$/.test(column), 'must be the name of a column'),
    ),
    AZURE_MONITOR_SAFETY_LAG_SECONDS: setting('Seconds that each run stays behind now', integer(600)),
    AZURE_MONITOR_NUM_PARTITIONS: setting('Slices of equal time that the first run is read in', integer(1, 1, 10_000)),
    AZURE_MONITOR_PARTITION_DURATION: setting(
      'Seconds of a slice; 0 for the number of slices at first and an hour later',
      integer(0),
    ),
    AZURE_MONITOR_MIN_PARTITION_SECONDS: setting(
      'Seconds below which a slice that is too large is not halved',
      integer(60, 1),
    ),
    AZURE_MONITOR_CONCURRENCY: setting('Queries at once; the service runs five', integer(4, 1, 5)),
    AZURE_MONITOR_CLOUD: setting('Cloud', choice(['public', 'government', 'china'], 'public')),
    AZURE_MONITOR_URL: setting('Base URL of the query API, where it is not the cloud’s own', optional()),
    AZURE_MONITOR_AUTHORITY_HOST: setting('Where tokens come from, where it is not the cloud’s own', optional()),
  },
  http: queryApi,
  resources: {
    logs: {
      about: 'Rows that the query finds among those that came since the last run',
      kind: 'events',
      path: '/v1/workspaces/{workspace}/query',
      method: 'POST',
      id: '_ItemId',
      // A query may make several rows of one.
      repeats: true,
      needs: 'Log Analytics Reader on the workspace, or Reader on the resource',
      resumes: true,
      collect: queried,
    },
  },
});

import { baseUrl, choice, flag, integer, secret, setting, text } from '../config/setting.ts';
import { duration, moment } from './_log_search.ts';
import { assertSliceable, authOf, exported } from './_splunk.ts';
import { defineCollector } from './collector.ts';

export default defineCollector({
  name: 'splunk',
  title: 'Splunk Enterprise and Cloud',
  docs: 'https://help.splunk.com/en/splunk-enterprise/leverage-rest-apis/rest-api-reference',
  env: {
    SPLUNK_URL: setting('Base URL of the management port, such as https://splunk.example:8089'),
    SPLUNK_AUTH_TOKEN: secret('Authentication token or session key (no HEC token); for Basic user:password'),
    SPLUNK_AUTH_SCHEME: setting('How the token is sent', choice(['Splunk', 'Bearer', 'Basic'], 'Splunk')),
    SPLUNK_INDEX: setting('Index to read, where there is no query', text('')),
    SPLUNK_SOURCETYPE: setting('Source type to read of that index', text('')),
    SPLUNK_SEARCH_FILTER: setting('Search terms that narrow it, without pipes and subsearches', text('')),
    SPLUNK_QUERY: setting('A whole search in SPL instead of an index', text('')),
    SPLUNK_TIMESPAN: setting('How far back the first run reads, an ISO 8601 duration', duration('P1D')),
    SPLUNK_START_TIME: setting('Where the first run begins instead, ISO 8601', moment()),
    SPLUNK_END_TIME: setting('Where reading ends for good, by the events’ own time, ISO 8601', moment()),
    SPLUNK_LOOKBACK_DAYS: setting(
      'Days that an event may be older than its indexing; 0 for any, else searches are faster and older ones are lost',
      integer(0),
    ),
    SPLUNK_SAFETY_LAG_SECONDS: setting('Seconds that each run stays behind now', integer(60)),
    SPLUNK_NUM_PARTITIONS: setting('Slices of equal time that the first run is read in', integer(1, 1, 10_000)),
    SPLUNK_PARTITION_DURATION: setting(
      'Seconds of a slice; 0 for the number of slices at first and an hour later',
      integer(0),
    ),
    SPLUNK_ALLOW_TRANSFORMING: setting('Whether stats, top and the like may be computed slice by slice', flag()),
    SPLUNK_CONCURRENCY: setting('Searches at once; a user’s role usually allows three', integer(2, 1, 50)),
    SPLUNK_READ_TIMEOUT: setting('Seconds to the first byte of a search’s results', integer(300, 1)),
  },
  http: (settings) => {
    assertSliceable(settings);
    return {
      baseUrl: baseUrl(settings.SPLUNK_URL),
      auth: authOf(settings.SPLUNK_AUTH_SCHEME, settings.SPLUNK_AUTH_TOKEN),
      concurrency: settings.SPLUNK_CONCURRENCY,
      timeout: settings.SPLUNK_READ_TIMEOUT,
    };
  },
  resources: {
    events: {
      about: 'Results of the search over what was indexed since the last run',
      kind: 'events',
      path: '/services/search/v2/jobs/export',
      method: 'POST',
      id: ['_bkt', '_cd'],
      // A search may make several results of an event.
      repeats: true,
      needs: 'search, with the index among the role’s searchable ones',
      resumes: true,
      probe: { path: '/services/authentication/current-context', query: { output_mode: 'json' } },
      collect: exported,
    },
  },
});

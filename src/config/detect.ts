import { list, optional, setting, text, type Values } from './setting.ts';

/** Variables of `detect`. */
export const detectShape = {
  DETECT_FROM: setting(
    'Where events are read: cassandra, astra, postgres, duckdb, file:GLOB or lines:GLOB',
    optional(),
  ),
  DETECT_DATASET: setting('The stored dataset that is read', text('syslog.events')),
  DETECT_INDICATORS: setting('Lists of indicators, files or patterns', list().optional()),
  DETECT_ALLOW: setting('Lists of what is never an alert, files or patterns', list().optional()),
  DETECT_RULES: setting('Sigma rules, files or patterns', list().optional()),
  DETECT_COUNTERS: setting(
    'What is counted beside memory, cpu and sudo: name=regex pairs separated by semicolons, or a JSON file of them',
    optional(),
  ),
} as const;

/** Their values. */
export type DetectSettings = Values<typeof detectShape>;

/** What is known of an upload: the second half of an envelope. The first five keys are the older tool's. */
export interface Metadata {
  readonly tenancy: string;
  /** UUID of this dataset in this run; `%UUID` in templates. */
  readonly upload_id: string;
  /** Start of the run, ISO 8601 UTC to the second. */
  readonly timestamp: string;
  readonly tag: string;
  readonly records: number;
  readonly collector: string;
  readonly resource: string;
  readonly run_id: string;
  /** Version of cyber-collect. */
  readonly version: string;
  /** How many records the vendor said there are, where it says so. */
  readonly expected?: number;
  /** SHA-256 of the records as NDJSON, in hex. */
  readonly sha256: string;
  /** In a file that uploads are merged into: how many of its records are of earlier ones. */
  readonly merged?: number;
  /** True for a copy out of the backup. */
  readonly stale?: true;
  /** Where that copy came from, as a URL. */
  readonly restored_from?: string;
}

/** A date as metadata holds it: ISO 8601, UTC, to the second. */
export function timestampOf(at: Date): string {
  return at.toISOString().replace(/\.\d+Z$/, 'Z');
}

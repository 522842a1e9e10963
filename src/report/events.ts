/** Every event that the log tells of, by its stable name: when it is said. Facts beside it are named in brackets. */
export const events = {
  'config.problem': 'A setting is wrong; what it is for does not run',
  'run.started': 'A run begins (tenancy, collectors)',
  'run.idle': 'No collector is configured',
  'run.interrupted': 'A signal asks the run to end',
  'run.finished': 'A run has ended (run_id, tenancy, exit_code, complete, datasets, records, duration_ms)',
  'dataset.progress': 'How far a dataset is, now and then where there is no terminal',
  'dataset.warning': 'Something odd about a dataset that does not stop it (tag)',
  'dataset.complete': 'A dataset is whole (tag, verdict, records, duration_ms)',
  'dataset.empty': 'A dataset is whole, and has no records (tag, verdict, records, duration_ms)',
  'dataset.failed': 'A dataset did not come whole (tag, verdict, records, duration_ms, reason)',
  'dataset.denied': 'The credentials may not read a dataset (tag, verdict, records, duration_ms, reason)',
  'dataset.restored':
    'A dataset failed, and its last good copy was restored (tag, verdict, records, duration_ms, reason)',
  'dataset.quarantined':
    'A dataset lost so many records that it is kept aside (tag, verdict, records, duration_ms, reason)',
  'dataset.drift': 'Fields of a dataset are new, gone or of another type (tag)',
  'store.warning': 'Something odd about a store that does not stop it',
  'store.failed': 'A store did not take a dataset (tag, store)',
  'store.caught-up': 'A store took what waited for it from earlier runs',
  'drain.stored': 'A batch of messages is in every store, and acknowledged',
  'drain.waits': 'A drain waits for a store or the service',
  'drain.warning': 'Something odd about messages that does not stop the drain',
  'drain.dead-letters': 'Messages that cannot be stored were set aside',
  'drain.interrupted': 'A signal asks the drain to end',
  'fleet.run': 'What a run of the fleet says',
  'fleet.done': 'A run of the fleet has ended well, or needs no other attempt',
  'fleet.again': 'A run of the fleet is to be tried again',
  'fleet.later': 'A run of the fleet is kept out for now, and is tried later',
  'fleet.dead': 'A run of the fleet waits for a person',
  'fleet.queue': 'Something odd about the connection to the queue',
  'fleet.stopping': 'A signal asks the worker to end',
  'status.unreadable': 'A run record cannot be read, and is passed over',
  'status.late': 'A dataset is older than it may be',
  'status.nothing': 'There are no run records yet',
  'notify.failed': 'Someone who was to be told of the run was not',
  'telemetry.failed': 'Metrics or traces were not written or sent',
  'demo.start': 'The vendors of the demo answer',
} as const;

/** The name of an event. */
export type EventName = keyof typeof events;

import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { secondsOf } from './config/duration.ts';
import { build, version } from './version.ts';

const LIST = '\nCollectors and stores are switched on by environment variables: see `cyber-collect list`.';

const CONFIG = 'configuration file; default cyber-collect.config.json, .yaml, .yml, .ts or .js if it is there';

/** What an action hands its run to, which ends with an exit code. */
type Ending = (run: Promise<number>) => Promise<void>;

/** The commands and their flags. */
function commandLine(ending: Ending): Command {
  const program = new Command('cyber-collect')
    .description('Extracts whole security datasets from vendors to your stores.')
    .exitOverride()
    .addHelpText('after', LIST);

  chosen(program.command('run').alias('wrapper').description('collect everything that is configured and store it'))
    .option('--dry-run', 'show the plan and every problem; call no vendor, write nothing')
    .option('--concurrency <n>', 'collectors at once', whole, 4)
    .option('--deadline <duration>', 'stop cleanly after this long, such as 90s, 30m, 6h', duration, 6 * 3600)
    .option('--full', 'read events from the start, whatever was read before')
    .addOption(
      new Option('--follow [duration]', 'keep reading events: again so long after each round, until a signal')
        .preset('10s')
        .argParser(duration),
    )
    .option('--headroom <percent>', 'share of the vendors’ limits to leave to others: 20, or okta=30')
    .option('--fresh', 'collect everything anew, whatever an interrupted run left')
    .addOption(
      new Option('--tenants <files>', 'a run for each tenant’s file, as tenants/*.env (repeatable)').argParser(
        patterns,
      ),
    )
    .option('--jobs <n>', 'tenants at once', whole, 4)
    .option('--shard <part>', 'only this part of the tenants: 0/4 to 3/4, or 4 where the machine is told its index')
    .addOption(
      new Option('--tenant <file>', 'one tenant: credentials come from this file alone').conflicts([
        'envFile',
        'tenancy',
        'tenants',
      ]),
    )
    .option('--slot <name>', 'store under upload ids derived from this name, the same at every attempt', slot)
    .option('--accept-shrink <names>', 'datasets that may have lost many records this time', many, [])
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options, command) =>
      ending(import('./commands/run.ts').then(({ run }) => run({ ...options, told: told(command) }))),
    );

  environment(program.command('list').description('collectors, resources and stores: idle, active or half set'))
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options) => ending(import('./commands/list.ts').then(({ list }) => list(options))));

  environment(
    program.command('explain').description('one dataset: endpoint, permission, paging, tag, targets; or the settings'),
    new Option('--config [file]', `${CONFIG}; alone: show every setting and where it comes from`),
  )
    .argument('[name]', 'a collector, or a dataset such as okta.users')
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((name, options) => ending(import('./commands/explain.ts').then(({ explain }) => explain(name, options))));

  chosen(
    program.command('doctor').description('try credentials, permissions, reach, clock and every store with a probe'),
  )
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options, command) =>
      ending(import('./commands/doctor.ts').then(({ doctor }) => doctor({ ...options, told: told(command) }))),
    );

  chosen(program.command('replay').description('deliver what waits for stores that were down; no vendor is called'))
    .option('--store <names>', 'only to these stores (repeatable, comma-separated)', many, [])
    .option('--run <id>', 'only what this run left')
    .option('--from-backup', 'the last good copies in the backup, such as to fill a new store')
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options) => ending(import('./commands/replay.ts').then(({ replay }) => replay(options))));

  environment(program.command('drain').description('take messages from a topic into the other stores, until a signal'))
    .argument('<source>', 'pulsar, which STORE_PULSAR_URL leads to')
    .option('--topic <name>', 'the topic; default STORE_PULSAR_TOPIC')
    .option('--subscription <name>', 'drains of one subscription share the work', 'cyber-collect')
    .addOption(new Option('--type <type>', 'how they share it').choices(['Shared', 'Key_Shared']).default('Shared'))
    .option('--tag <name>', 'dataset of messages that name none', 'pulsar_events')
    .option('--batch <n>', 'messages that are stored together, about', whole, 10_000)
    .option('--every <duration>', 'how long a message waits for others', duration, 10)
    .option('--redeliveries <n>', 'tries before what a store refuses becomes a dead letter', whole, 5)
    .option('--dead-letter <topic>', 'topic of what cannot be stored; default <topic>-dlq')
    .option('--once', 'end when the topic is empty')
    .option('--idle-exit <duration>', 'end when no message has come for so long', duration)
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((source, options) => ending(import('./commands/drain.ts').then(({ drain }) => drain(source, options))));

  const watching = program
    .command('watch')
    .description('collect again and again, every active collector by itself, for ever');
  const bridges = 'configuration file, or file of bridges: what runs when; also an older config.json as it is';
  chosen(watching, new Option('--config <file>', bridges))
    .option('--every <duration>', 'how long to wait behind a run, such as 30m; default 1h', duration)
    .option('--fail-every <duration>', 'how long behind a run that was not complete; default 5m', duration)
    .addOption(new Option('--cron <expression>', "when to run instead, such as '15 * * * *'").conflicts('every'))
    .option('--time-zone <name>', 'of cron expressions, such as Europe/Madrid; default the machine’s')
    .option('--concurrency <n>', 'runs at once', whole, 4)
    .option('--deadline <duration>', 'stop a run cleanly after this long', duration, 6 * 3600)
    .option('--headroom <percent>', 'share of the vendors’ limits to leave to others: 20, or okta=30')
    .option('--health', 'only tell whether a watch is alive here: exit code 0, or 3')
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options) =>
      ending(
        options.health === true
          ? import('./commands/health.ts').then(({ health }) => health(options))
          : import('./commands/watch.ts').then(({ watch }) => watch(options)),
      ),
    );

  environment(program.command('detect').description('look for indicators and rules in stored events; store alerts'))
    .option('--from <source>', 'cassandra, astra, postgres, duckdb, file:GLOB, lines:GLOB, or - for stdin')
    .option('--dataset <name>', 'the stored dataset to read; default syslog.events')
    .option('--indicators <files>', 'lists of indicators: lines, CSV, STIX, MISP (repeatable)', patterns)
    .option('--allow <files>', 'lists of what is never an alert (repeatable)', patterns)
    .option('--rules <files>', 'Sigma rules (repeatable)', patterns)
    .option('--counters <pairs>', 'what is counted too: name=regex;name=regex, or a JSON file')
    .option('--full', 'read from the start; what was told before is not told again')
    .option('--every <duration>', 'how long an event of a live stream waits for others', duration, 10)
    .option('--fail-on-alert', 'exit with code 9 when there are alerts')
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options) => ending(import('./commands/detect.ts').then(({ detect }) => detect(options))));

  environment(
    program.command('verify').description('hold run records, their chain and stored files against each other'),
  )
    .option('--head <sha256>', 'hash of a record that must be there, as a run printed it')
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options) => ending(import('./commands/verify.ts').then(({ verify }) => verify(options))));

  chosen(program.command('status').description('how fresh every dataset is, what is wrong since when, what waits'))
    .option('--max-age <duration>', 'exit 3 when the last good upload of a dataset is older, such as 26h', duration)
    .addOption(outputs(['table', 'json', 'markdown']))
    .action((options) => ending(import('./commands/status.ts').then(({ status }) => status(options))));

  chosen(program.command('report').description('one HTML page: freshness, counts, coverage, failures, changed fields'))
    .option('--html <file>', 'where the page goes; stdout unless told')
    .option('--max-age <duration>', 'mark datasets whose last good upload is older, such as 26h', duration)
    .action((options) => ending(import('./commands/report.ts').then(({ report }) => report(options))));

  environment(program.command('peek').description('the first records of a dataset on stdout; nothing is stored'))
    .argument('<name>', 'a dataset such as okta.users')
    .option('-n <records>', 'how many', whole, 5)
    .action((name, options) => ending(import('./commands/peek.ts').then(({ peek }) => peek(name, options))));

  fleet(program, ending);
  beginnings(program, ending);

  program
    .command('demo')
    .description('real collectors against a bundled vendor on this machine, into ./data; no credentials, no network')
    .option('--serve', 'only start the vendors and print the variables that reach them')
    .option('--records <n>', 'records of the largest list', whole, 2000)
    .action((options) => ending(import('./commands/demo.ts').then(({ demo }) => demo(options))));

  program
    .command('docs')
    .description('write the generated pages and .env.example into the working directory')
    .option('--check', 'only say whether they are up to date')
    .action((options) => ending(import('./commands/docs.ts').then(({ docs }) => docs(options, program))));

  shells(program, ending);
  return program;
}

/**
 * Reads the command line and runs the command; everything else is loaded on use.
 * @returns the exit code
 */
export async function main(argv: readonly string[]): Promise<number> {
  let code = 0;
  const program = commandLine((run) =>
    run.then((ended) => {
      code = ended;
    }),
  );
  const verbose = argv.includes('--verbose') || argv.includes('-v');
  program.version(verbose ? build() : version(), '-V, --version', 'the version; with --verbose also what was built');
  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return (await import('./commands/fail.ts')).fail(error);
  }
  return code;
}

/** Commands that shells use. */
function shells(program: Command, ending: Ending): void {
  program
    .command('completion')
    .description('a script that completes commands, flags and names: source <(cyber-collect completion bash)')
    .addArgument(new Argument('<shell>', 'the shell that reads it').choices(['bash', 'zsh', 'fish']))
    .action((shell) => ending(import('./commands/completion.ts').then(({ completion }) => completion(shell))));
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .action((words) => ending(import('./commands/complete.ts').then(({ complete }) => complete(program, words))));
}

/** Commands that write what one begins with. */
function beginnings(program: Command, ending: Ending): void {
  program
    .command('init')
    .description('write .env for what you choose, and files that run it on time; asks on a terminal')
    .option('--only <collectors>', 'these collectors: okta,crowdstrike (repeatable)', many, [])
    .option('--store <stores>', 'these stores: file,s3 (repeatable)', many, [])
    .option('--for <schedulers>', 'cron, systemd, github, gitlab, kubernetes, airflow (repeatable)', many, [])
    .option('--tenancy <name>', 'name of your organisation, the value of %TENANCY')
    .option('--file <path>', 'where the variables go', '.env')
    .option('--append', 'add to that file what it does not say yet')
    .action((options) => ending(import('./commands/init.ts').then(({ init }) => init(options))));
  program
    .command('new')
    .description('write a collector or store of your own that works, with its test')
    .addArgument(new Argument('<kind>').choices(['collector', 'store']))
    .argument('<name>', 'its name, as acme_cloud')
    .option('--js', 'in JavaScript, for a folder of your own')
    .action((kind, name, options) =>
      ending(import('./commands/new.ts').then(({ newRoom }) => newRoom(kind, name, options))),
    );
}

/** Commands over the queues of a fleet. */
function fleet(program: Command, ending: Ending): void {
  const load = () => import('./commands/fleet.ts');
  const common = (command: Command) =>
    command
      .option('--env-file <path>', 'read variables from this file (repeatable); default .env if it is there', many, [])
      .option('--config <file>', CONFIG)
      .addOption(outputs(['table', 'json', 'markdown']));
  const only = (command: Command) => common(command).option('--only <collectors>', 'only these', many, []);
  only(program.command('worker').description('carry out the runs that are in the queues, until a signal'))
    .requiredOption('--tenants <files>', 'files of the tenants, as tenants/*.env (repeatable)', patterns)
    .option('--jobs <n>', 'runs at once', whole, 8)
    .option('--grace <duration>', 'how long runs under way may take to end after a signal', duration, 120)
    .option('--idle-exit <duration>', 'end when there was nothing to do for so long', duration)
    .addOption(new Option('--log-format <format>', 'format of what is said').choices(['text', 'json']).default('text'))
    .action((options) => ending(load().then(({ worker }) => worker(options))));
  const queues = program.command('fleet').description('runs of many tenants in queues: Redis or PostgreSQL');
  only(
    queues.command('submit').description('put a run for each tenant and collector into the queues; again is harmless'),
  )
    .argument('<files...>', 'files of the tenants, as tenants/*.env')
    .option('--slot <name>', 'what the runs are for; default the hour, as 2026-11-21T03', slot)
    .option('--spread <duration>', 'over how long the runs are spread', spread, 50 * 60)
    .option('--limits <file>', 'JSON with limits over all machines, by collector')
    .action((files, options) => ending(load().then(({ fleetSubmit }) => fleetSubmit(files, options))));
  common(queues.command('status').description('how many runs are where')).action((options) =>
    ending(load().then(({ fleetStatus }) => fleetStatus(options))),
  );
  common(queues.command('failed').description('runs that wait for a person')).action((options) =>
    ending(load().then(({ fleetFailed }) => fleetFailed(options))),
  );
  common(queues.command('retry').description('put those back into their queues'))
    .argument('[collector]', 'only of this collector')
    .action((collector, options) => ending(load().then(({ fleetRetry }) => fleetRetry(collector, options))));
  for (const name of ['pause', 'resume'] as const) {
    const what = name === 'pause' ? 'begin no more runs of a collector, on all machines' : 'go on with a collector';
    common(queues.command(name).description(what))
      .argument('<collector>')
      .action((collector, options) =>
        ending(load().then(({ fleetPause }) => fleetPause(collector, name === 'pause', options))),
      );
  }
}

/** Flags of commands that read the environment. */
function environment(command: Command, config = new Option('--config <file>', CONFIG)): Command {
  return command
    .option('--env-file <path>', 'read variables from this file (repeatable); default .env if it is there', many, [])
    .addOption(config)
    .option('--tenancy <name>', 'value of %TENANCY')
    .option('-q, --quiet', 'only warnings and errors')
    .option('-v, --verbose', 'every detail')
    .addOption(
      new Option('--log-format <format>', 'format of what is said on stderr').choices(['text', 'json']).default('text'),
    );
}

/** Flags of commands that choose datasets as well. */
function chosen(command: Command, config?: Option): Command {
  return environment(command, config)
    .option('--only <names>', 'only these: okta, okta.users, okta_users, globs (repeatable, comma-separated)', many, [])
    .option('--exclude <names>', 'but not these; wins over --only', many, []);
}

/** The flags that stand on the command line. */
function told(command: Command): readonly string[] {
  return Object.keys(command.opts()).filter((name) => command.getOptionValueSource(name) === 'cli');
}

function outputs(formats: readonly string[]): Option {
  return new Option('-o, --output <format>', 'format of what is printed on stdout').choices(formats).default('table');
}

function many(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

function patterns(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function slot(value: string): string {
  if (!/^[\w.+-]{1,64}$/.test(value))
    throw new InvalidArgumentError('write letters, digits and . + - _, such as 2026-11-21T03.');
  return value;
}

function whole(value: string): number {
  if (!/^[1-9]\d{0,8}$/.test(value)) throw new InvalidArgumentError('write a whole number from 1 on.');
  return Number(value);
}

/** The same, or none. */
function spread(value: string): number {
  return /^0[smhd]?$/.test(value) ? 0 : duration(value);
}

/** Seconds of `90`, `90s`, `30m`, `6h`, `1d`. */
function duration(value: string): number {
  const seconds = secondsOf(value);
  if (seconds === undefined) throw new InvalidArgumentError('write a duration such as 90s, 30m or 6h.');
  return seconds;
}

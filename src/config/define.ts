import type { programShape } from './program.ts';

/** A value as it is written, or where it is: in a variable, or in a file. */
export type Setting =
  | string
  | number
  | boolean
  | null
  | readonly (string | number)[]
  | { readonly env: string }
  | { readonly file: string };

/** The section of a collector or store: its keys are on its page and in the schema. */
export type RoomSettings = Readonly<Record<string, Setting>>;

type Camel<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Lowercase<Head>}${Capitalize<Camel<Tail>>}`
  : Lowercase<S>;
type Variable = keyof typeof programShape;
type Under<Prefix extends string, Except extends string = never> = {
  readonly [Name in Exclude<Variable, Except> as Name extends `${Prefix}${infer Rest}` ? Camel<Rest> : never]?: Setting;
};
type Elsewhere =
  | `CYBER_COLLECT_${string}`
  | `NOTIFY_${string}`
  | `OTEL_${string}`
  | `SLACK_${string}`
  | 'TENANCY'
  | 'TRACEPARENT';

/** What may stand in place of the flags of `run`. */
export interface RunConfig {
  readonly concurrency?: number;
  /** Seconds, or 90s, 30m, 6h. */
  readonly deadline?: number | string;
  readonly only?: string | readonly string[];
  readonly exclude?: string | readonly string[];
  readonly acceptShrink?: string | readonly string[];
  readonly full?: boolean;
  readonly fresh?: boolean;
  readonly jobs?: number;
  readonly headroom?: Setting;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly logFormat?: 'text' | 'json';
  readonly output?: 'table' | 'json' | 'markdown';
}

/** A configuration file. */
export interface Config {
  readonly $schema?: string;
  readonly tenancy?: Setting;
  readonly run?: RunConfig;
  readonly program?: Under<'CYBER_COLLECT_', 'CYBER_COLLECT_CONFIG' | 'CYBER_COLLECT_HEADROOM'> & Plain;
  readonly notify?: Under<'NOTIFY_'> & { readonly slackWebhookUrl?: Setting };
  readonly otel?: Under<'OTEL_'>;
  readonly secrets?: RoomSettings;
  readonly vault?: RoomSettings;
  readonly collectors?: Readonly<Record<string, RoomSettings | Setting>>;
  readonly stores?: Readonly<Record<string, RoomSettings | Setting>>;
}

/** Settings of the program whose variables begin as no section does. */
type Plain = { readonly [Name in Exclude<Variable, Elsewhere> as Camel<Name>]?: Setting };

/** Checks the types of a configuration; returns it. */
export function defineConfig(config: Config): Config {
  return config;
}

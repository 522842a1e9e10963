const UNITS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds of `90`, `90s`, `30m`, `6h`, `1d`; undefined for what is no duration, or none at all. */
export function secondsOf(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text.trim());
  const seconds = Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? Number.NaN);
  return seconds > 0 ? seconds : undefined;
}

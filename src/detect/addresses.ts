/** A range of addresses. */
export interface Range {
  /** Its first address, in bytes: 4 or 16. */
  readonly bytes: readonly number[];
  readonly bits: number;
  /** Whether it is one address. */
  readonly isHost: boolean;
  /** `network/bits`, with the bits of the hosts cleared. */
  readonly text: string;
}

/** The bytes of an IPv4 or IPv6 address; undefined when it is none. Octets with leading zeros are none. */
export function parseAddress(text: string): readonly number[] | undefined {
  return text.includes(':') ? parseV6(text) : parseV4(text);
}

function parseV4(text: string): readonly number[] | undefined {
  if (!/^(?:(?:0|[1-9]\d{0,2})\.){3}(?:0|[1-9]\d{0,2})$/.test(text)) return undefined;
  const bytes = text.split('.').map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : undefined;
}

function parseV6(text: string): readonly number[] | undefined {
  const plain = text.replace(/%.*$/, '');
  if (!/^[\da-f:.]{2,45}$/i.test(plain)) return undefined;
  const halves = plain.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map(groupsOf);
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  if (tail === undefined) return head.length === 16 ? head : undefined;
  const missing = 16 - head.length - tail.length;
  return missing < 2 ? undefined : [...head, ...new Array<number>(missing).fill(0), ...tail];
}

function groupsOf(text: string): readonly number[] | undefined {
  if (text === '') return [];
  const groups = text.split(':');
  const bytes: number[] = [];
  for (const [n, group] of groups.entries()) {
    const v4 = n === groups.length - 1 && group.includes('.') ? parseV4(group) : undefined;
    if (v4 !== undefined) bytes.push(...v4);
    else if (/^[\da-f]{1,4}$/i.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 255);
    } else return undefined;
  }
  return bytes;
}

/** A range in CIDR notation; undefined when it is none. */
export function parseRange(text: string): Range | undefined {
  const [, address = '', length = ''] = /^([\da-f:.]+)\/(\d{1,3})$/i.exec(text) ?? [];
  const bytes = parseAddress(address);
  const bits = Number(length);
  if (bytes === undefined || length === '' || bits > bytes.length * 8) return undefined;
  const masked = maskedTo(bytes, bits);
  const isHost = bits === bytes.length * 8;
  return { bytes: masked, bits, isHost, text: isHost ? textOf(masked) : `${textOf(masked)}/${bits}` };
}

/** An address whose bits behind the first so many are cleared. */
export function maskedTo(bytes: readonly number[], bits: number): readonly number[] {
  return bytes.map((byte, n) => byte & (0xff << (8 - Math.max(0, Math.min(8, bits - n * 8)))) & 0xff);
}

function textOf(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let n = 0; n < 16; n += 2) groups.push((((bytes[n] ?? 0) << 8) | (bytes[n + 1] ?? 0)).toString(16));
  return groups.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
}

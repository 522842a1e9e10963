const FIRST = [
  'Amélie',
  'Björn',
  'Chloë',
  'Dmitri',
  'Eszter',
  'Fatima',
  'Grzegorz',
  'Hana',
  'Ínigo',
  'Jürgen',
  '健太',
  'Łucja',
];
const LAST = [
  'Ångström',
  'Brontë',
  'Căruntu',
  'Dvořák',
  "O'Ečer",
  'Fernández',
  'Grønn',
  'Hőgyes',
  'İnan',
  '佐藤',
  'Nguyễn',
  'Smith',
];
const EPOCH = Date.UTC(2021, 0, 4);
/** Moments of five years; writing dates is what costs most in a record. */
const MOMENTS = Array.from({ length: 4096 }, (_, index) => new Date(EPOCH + index * 38_499_123).toISOString());

/** 32 well mixed bits of an index: the seeded chance everything here is drawn from. */
export function mix(index: number, salt = 0): number {
  let bits = (index + Math.imul(salt + 1, 0x9e3779b1)) | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** One of some values. */
export function pick<T>(values: readonly [T, ...T[]], index: number, salt = 0): T {
  return values[mix(index, salt) % values.length] ?? values[0];
}

/** Hex digits. */
export function hex(index: number, salt: number, length: number): string {
  let out = '';
  for (let part = 0; out.length < length; part += 1)
    out += mix(index, salt * 31 + part)
      .toString(16)
      .padStart(8, '0');
  return out.slice(0, length);
}

/** A UUID whose last twelve digits are its index. */
export function uuid(index: number, salt = 0): string {
  const digits = hex(index, salt, 20);
  const tail = index.toString(16).padStart(12, '0');
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-4${digits.slice(13, 16)}-a${digits.slice(17, 20)}-${tail}`;
}

/** A moment of the last years, ISO 8601 to the millisecond. */
export function moment(index: number, salt = 0): string {
  return MOMENTS[mix(index, salt) % MOMENTS.length] ?? '';
}

/** An address of the documentation ranges or of 10/8. */
export function address(index: number, salt = 0): string {
  const bits = mix(index, salt);
  return `10.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`;
}

/** Somebody who does not exist. */
export function person(index: number): { readonly first: string; readonly last: string; readonly mail: string } {
  const [first = '', last = ''] = [FIRST[mix(index, 1) % FIRST.length], LAST[mix(index, 2) % LAST.length]];
  return { first, last, mail: `person.${index}@acme.example` };
}

/** A number as exactly these digits, such as 9007199254740993 or 1.50; only `text` understands it. */
export function digits(written: string): string {
  return `\u0001${written}\u0001`;
}

/** A record as JSON text. Every seventh escapes what is not ASCII: the same value, other bytes. */
export function text(value: object, index = 0): string {
  const json = JSON.stringify(value).replace(/"\\u0001([^"\\]*)\\u0001"/g, '$1');
  if (index % 7 !== 6) return json;
  return json.replace(/[\u0080-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

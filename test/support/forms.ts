/** A secret in eight encodings: as it is, in JSON, percent-encoded, in a form, base64, base64url, hex, and hex in capitals. */
export function formsOf(secret: string): readonly string[] {
  const bytes = Buffer.from(secret);
  return [
    secret,
    JSON.stringify(secret).slice(1, -1),
    encodeURIComponent(secret),
    new URLSearchParams({ v: secret }).toString().slice(2),
    ...insideOf(bytes, 'base64'),
    ...insideOf(bytes, 'base64url'),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
  ];
}

/** The middle of base64 text depends on where the secret starts in it; its outermost letters depend on the neighbours. */
function insideOf(bytes: Buffer, encoding: 'base64' | 'base64url'): readonly string[] {
  return [0, 1, 2].map((shift) =>
    Buffer.concat([Buffer.alloc(shift), bytes])
      .toString(encoding)
      .replace(/=+$/, '')
      .slice(4, -4),
  );
}

/** Replaces every known secret in a text, in the forms it may have taken on the way. */
export interface Redactor {
  add(secret: string): void;
  redact(text: string): string;
}

const SHORTEST = 4;

/** A redactor that knows nothing yet. */
export function createRedactor(): Redactor {
  const forms = new Set<string>();
  return {
    add(secret) {
      if (secret.length >= SHORTEST) for (const form of formsOf(secret)) if (form.length >= SHORTEST) forms.add(form);
    },
    redact(text) {
      let out = text;
      for (const form of [...forms].sort((a, b) => b.length - a.length)) out = out.replaceAll(form, '[secret]');
      return out;
    },
  };
}

function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const json = JSON.stringify(secret).slice(1, -1);
  return [
    secret,
    json,
    encodeURIComponent(secret),
    encodeURI(secret),
    new URLSearchParams({ v: secret }).toString().slice(2),
    ...base64Cores(bytes, 'base64'),
    ...base64Cores(bytes, 'base64url'),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
  ];
}

/** The parts of base64 text that stay the same wherever in a longer text the secret begins. */
function base64Cores(bytes: Buffer, encoding: 'base64' | 'base64url'): string[] {
  return [0, 1, 2].map((shift) => {
    const whole = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString(encoding)
      .replace(/=+$/, '');
    const from = Math.ceil((shift * 8) / 6);
    const to = Math.floor(((shift + bytes.length) * 8) / 6);
    return whole.slice(from, to);
  });
}

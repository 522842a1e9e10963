import type { RunningVendor } from '../../src/simulator/vendor.ts';

/** An answer, read. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** Asks a vendor; a path or a whole URL. */
export async function ask(vendor: RunningVendor, path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(new URL(path, vendor.origin), { redirect: 'manual', ...init });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** The records of the array a text begins with, each as its own text. */
export function split(array: string): string[] {
  const out: string[] = [];
  let [depth, start, quoted] = [0, -1, false];
  for (let i = 0; i < array.length; i += 1) {
    const letter = array[i];
    if (quoted) {
      if (letter === '\\') i += 1;
      else if (letter === '"') quoted = false;
    } else if (letter === '"') quoted = true;
    else if (letter === '{' || letter === '[') {
      depth += 1;
      if (depth === 2) start = i;
    } else if (letter === '}' || letter === ']') {
      if (depth === 2) out.push(array.slice(start, i + 1));
      depth -= 1;
      if (depth === 0) break;
    }
  }
  return out;
}

/** The text of the array under a key, to the end of the body. */
export function arrayAt(body: string, key: string): string {
  return body.slice(body.indexOf(`"${key}":[`) + key.length + 3);
}

/** The target of `rel="next"`. */
export function nextOf(headers: Headers): string | undefined {
  return /<([^>]*)>; rel="next"/.exec(headers.get('link') ?? '')?.[1];
}

/** Reads a list by its Link headers, at most so many pages. */
export async function byLinks(
  vendor: RunningVendor,
  path: string,
  headers: Record<string, string>,
  most = 50,
): Promise<string[]> {
  const out: string[] = [];
  let next: string | undefined = path;
  for (let pages = 0; next !== undefined && pages < most; pages += 1) {
    const { status, headers: got, text } = await ask(vendor, next, { headers });
    if (status !== 200) throw new Error(`status ${status}`);
    out.push(...split(text));
    next = nextOf(got);
  }
  return out;
}

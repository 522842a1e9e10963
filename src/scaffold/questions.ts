import { createInterface } from 'node:readline/promises';
import { asCollectError, ConfigError } from '../errors.ts';

/** Where somebody sits and answers. */
export interface Terminal {
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WritableStream;
}

/** Puts a question until the answer is understood. */
export type Ask = <T>(question: string, understand: (answer: string) => T) => Promise<T>;

/**
 * Lets a dialogue ask, one question behind the other.
 * @returns undefined where it was broken off, by Ctrl-C or the end of the input
 */
export async function dialogue<T>(terminal: Terminal, talk: (ask: Ask) => Promise<T>): Promise<T | undefined> {
  const lines = createInterface({ ...terminal });
  const over = new AbortController();
  lines.once('close', () => over.abort());
  const ask: Ask = async (question, understand) => {
    for (;;) {
      const answer = await lines.question(question, { signal: over.signal });
      try {
        return understand(answer.trim());
      } catch (thrown) {
        for (const { message, mend = 'answer again' } of problemsOf(thrown))
          terminal.output.write(`${message}: ${mend}\n`);
      }
    }
  };
  try {
    return await talk(ask);
  } catch (thrown) {
    if (over.signal.aborted) return undefined;
    throw thrown;
  } finally {
    lines.close();
  }
}

function problemsOf(thrown: unknown): readonly { readonly message: string; readonly mend: string | undefined }[] {
  return thrown instanceof ConfigError ? thrown.problems : [asCollectError(thrown)];
}

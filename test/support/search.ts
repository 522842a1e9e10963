/** A reader of Elasticsearch or OpenSearch that is none of ours. */
export interface SearchReader {
  /** The records behind an index or alias as they were stored, at most 10,000, in order; none where there is none. */
  records(name: string): Promise<readonly string[]>;
  /** The same with the ids of the documents, and what the store put beside each. */
  documents(name: string): Promise<readonly { readonly id: string; readonly text: string; readonly source: unknown }[]>;
  /** Names of the indices that begin so. */
  indices(stem: string): Promise<readonly string[]>;
  ask(method: string, path: string, body?: unknown): Promise<unknown>;
  /** Deletes all that begins so. */
  wipe(stem: string): Promise<void>;
}

const HIT = /"_id":"((?:[^"\\]|\\.)*)"[^{}]*?"_source":(\{.*?"_cyber_collect":\{[^{}]*\}\})/gs;

/** Reads over plain HTTP, as texts, so that not a digit is lost; `filter_path` would have the server write them anew. */
export function searchReader(url: string): SearchReader {
  async function text(method: string, path: string, body?: unknown): Promise<string> {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const said = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${said.slice(0, 500)}`);
    return said;
  }
  async function ask(method: string, path: string, body?: unknown): Promise<unknown> {
    return JSON.parse(await text(method, path, body));
  }
  async function documents(name: string) {
    const query = 'size=10000&sort=_cyber_collect.record&ignore_unavailable=true&allow_partial_search_results=false';
    const said = await text('GET', `/${name}/_search?${query}`);
    return [...said.matchAll(HIT)].map(([, id = '', source = '']) => ({
      id: JSON.parse(`"${id}"`) as string,
      source: JSON.parse(source),
      text: recordIn(source),
    }));
  }
  async function indices(stem: string): Promise<readonly string[]> {
    return Object.keys((await ask('GET', `/${stem}*?expand_wildcards=all`)) as object).sort();
  }
  return {
    ask,
    documents,
    indices,
    records: async (name) => (await documents(name)).map((one) => one.text),
    async wipe(stem) {
      for (const index of await indices(stem)) await ask('DELETE', `/${index}`);
    },
  };
}

/** The vendor's record in a document: all but what the store added, or the text that it was kept as. */
function recordIn(source: string): string {
  const own = source.slice(0, source.lastIndexOf('"_cyber_collect":{')).replace(/,$/, '');
  const text = /^\{"_record":("(?:[^"\\]|\\.)*")/s.exec(own)?.[1];
  return text === undefined ? `${own}}` : (JSON.parse(text) as string);
}

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { staticHeaders } from '../../src/http/auth.ts';
import { cursor, linkHeader, nextUrl, offset, pageNumber } from '../../src/http/paginate.ts';
import { listed, openClient, recordsOf, textOf } from '../support/client.ts';
import { failureOf } from '../support/failure.ts';
import { gate, json, type Received, type Route, reset, type ScriptedServer, serve } from '../support/server.ts';

const LIST = { path: '/users', records: '' };

function numberOf({ url }: Received, name = 'page'): number {
  return Number(url.searchParams.get(name) ?? 1);
}

function link(server: () => ScriptedServer, page: number): Readonly<Record<string, string>> {
  return { link: `<${server().origin.origin}/users?page=${page}>; rel="next"` };
}

/** Pages of one record each behind Link headers. */
function linked(pages: number): (server: () => ScriptedServer) => Route {
  return (server) => (request, response) => {
    const page = numberOf(request);
    json(response, [{ page }], 200, page < pages ? link(server, page + 1) : {});
  };
}

/** Serves a route that must know its own server. */
async function serveSelf(route: (server: () => ScriptedServer) => Route): Promise<ScriptedServer> {
  let self: ScriptedServer | undefined;
  const server = () => {
    if (self === undefined) throw new Error('asked before it was there');
    return self;
  };
  self = await serve(route(server));
  return self;
}

describe('a list', () => {
  it('comes page by page in order', async () => {
    const server = await serveSelf(linked(5));
    const { http, meter } = await openClient(server.origin, { http: { paginate: linkHeader() } });
    expect((await listed(http.pages(LIST))).flat()).toEqual([1, 2, 3, 4, 5].map((page) => ({ page })));
    expect(meter.requests).toBe(5);
  });

  it('goes on behind an empty page that has a next one', async () => {
    const server = await serve((request, response) => {
      const page = numberOf(request, 'after');
      json(response, { data: page === 2 ? [] : [{ page }], ...(page < 4 ? { after: page + 1 } : {}) });
    });
    const { http } = await openClient(server.origin);
    const pages = http.pages({ path: '/users', records: 'data', paginate: cursor('after', { as: 'after' }) });
    expect(await listed(pages)).toEqual([[{ page: 1 }], [], [{ page: 3 }], [{ page: 4 }]]);
  });

  it('may keep its cursor while its pages differ', async () => {
    const server = await serve((_request, response, nth) =>
      json(response, { data: nth < 6 ? [{ id: nth }] : [], ...(nth < 6 ? { scroll: 'always-the-same' } : {}) }),
    );
    const { http } = await openClient(server.origin);
    const pages = http.pages({ path: '/users', records: 'data', paginate: cursor('scroll', { as: 'scroll' }) });
    expect((await listed(pages)).flat().length).toBe(5);
  });

  it('is incomplete when the same cursor brings the same page again', async () => {
    const server = await serve((_request, response, nth) =>
      json(response, { data: [{ id: Math.min(nth, 3) }], scroll: 'always-the-same' }),
    );
    const { http } = await openClient(server.origin);
    const pages = http.pages({ path: '/users', records: 'data', paginate: cursor('scroll', { as: 'scroll' }) });
    const error = await failureOf(listed(pages));
    expect(error).toMatchObject({ code: 'incomplete', message: 'GET /users: the same page comes again and again' });
    expect(server.received.length).toBe(4);
  });

  it('is incomplete when its links lead back', async () => {
    const server = await serveSelf((self) => (request, response) => {
      const page = numberOf(request);
      json(response, [{ page }], 200, link(self, (page % 3) + 1));
    });
    const { http } = await openClient(server.origin, { http: { paginate: linkHeader() } });
    expect((await failureOf(listed(http.pages(LIST)))).code).toBe('incomplete');
    expect(server.received.length).toBeLessThanOrEqual(6);
  });

  it('is incomplete when the vendor says there is more and gives no cursor', async () => {
    const server = await serve((_request, response) => json(response, { data: [{}], more: true }));
    const { http } = await openClient(server.origin);
    const paginate = cursor('next', { as: 'cursor', more: 'more' });
    const error = await failureOf(listed(http.pages({ path: '/users', records: 'data', paginate })));
    expect(error.code).toBe('incomplete');
  });

  it('has a ceiling of pages', async () => {
    const server = await serveSelf(linked(99));
    const { http } = await openClient(server.origin, { maxPages: 7, http: { paginate: linkHeader() } });
    const error = await failureOf(listed(http.pages(LIST)));
    expect(error).toMatchObject({ code: 'refused', message: expect.stringContaining('more than 7 pages') });
    expect(error.mend).toContain('CYBER_COLLECT_MAX_PAGES');
  });

  it.each(['in the header', 'in the body'])(
    'refuses a next link %s to another host, and sends nothing there',
    async (place) => {
      const other = await serve((_request, response) => json(response, []));
      const next = `${other.origin.origin}/users?page=2`;
      const server = await serve((_request, response) =>
        json(response, { data: [{ id: 1 }], next }, 200, { link: `<${next}>; rel="next"` }),
      );
      const paginate = place === 'in the body' ? nextUrl('next') : linkHeader();
      const { http } = await openClient(server.origin, { http: { auth: staticHeaders({ authorization: 'SSWS x' }) } });
      const error = await failureOf(listed(http.pages({ path: '/users', records: 'data', paginate })));
      expect(error).toMatchObject({ code: 'refused', message: expect.stringContaining(other.origin.host) });
      expect(other.received).toEqual([]);
    },
  );

  it('goes on from a page that failed in passing', async () => {
    const server = await serveSelf((self) => (request, response, nth) => {
      if (nth === 2) return reset(response, '[{"page":2}');
      const page = numberOf(request);
      json(response, [{ page }], 200, page < 3 ? link(self, page + 1) : {});
    });
    const { http } = await openClient(server.origin, { http: { paginate: linkHeader() } });
    expect((await listed(http.pages(LIST))).flat()).toEqual([{ page: 1 }, { page: 2 }, { page: 3 }]);
  });

  it('fails as a whole when a page in its middle fails', async () => {
    const server = await serveSelf((self) => (request, response) => {
      const page = numberOf(request);
      json(response, [{ page }], page === 3 ? 400 : 200, link(self, page + 1));
    });
    const { http } = await openClient(server.origin, { http: { paginate: linkHeader() } });
    expect(await failureOf(listed(http.pages(LIST)))).toMatchObject({ code: 'vendor', status: 400 });
  });
});

describe('asking ahead', () => {
  it('page 2 is asked for while the body of page 1 still comes', async () => {
    const second = gate();
    const server = await serveSelf((self) => async (request, response) => {
      if (numberOf(request) === 2) {
        second.open();
        return json(response, [{ page: 2 }]);
      }
      response.writeHead(200, link(self, 2)).write('[{"page":1}');
      await second.opened; // without page 2 asked for, page 1 would never end
      response.end(']');
    });
    const { http } = await openClient(server.origin, { http: { paginate: linkHeader() } });
    expect((await listed(http.pages(LIST))).flat()).toEqual([{ page: 1 }, { page: 2 }]);
    expect(server.received.length).toBe(2);
  });

  it('what the headers of a try that failed later led to does not count', async () => {
    const asked = gate();
    const server = await serveSelf((self) => async (request, response, nth) => {
      const page = numberOf(request);
      if (nth === 1) {
        response.writeHead(200, link(self, 77)).write('[{"page":1}');
        await asked.opened;
        response.socket?.destroy();
        return;
      }
      asked.open();
      json(response, [{ page }], 200, page === 1 ? link(self, 2) : {});
    });
    const { http } = await openClient(server.origin, { http: { paginate: linkHeader() } });
    expect((await listed(http.pages(LIST))).flat()).toEqual([{ page: 1 }, { page: 2 }]);
  });

  /** Answers in the reverse order of asking, `concurrency` at a time. */
  function reversing(total: number, size: number, concurrency: number): Route {
    let waiting: (() => void)[] = [];
    let left = Math.ceil(total / size) - 1;
    return async (request, response) => {
      const start = Number(request.url.searchParams.get('offset') ?? 0);
      if (start > 0) {
        const { opened, open } = gate();
        waiting.push(open);
        if (waiting.length === Math.min(concurrency, left)) {
          left -= waiting.length;
          const group = waiting.reverse();
          waiting = [];
          for (const release of group) release();
        }
        await opened;
      }
      const data = Array.from({ length: Math.min(size, total - start) }, (_, n) => ({ id: start + n }));
      json(response, { data, total });
    };
  }

  it('pages asked for at once come in order, and no more than allowed at once', async () => {
    const server = await serve(reversing(205, 10, 1));
    const paginate = offset({ as: 'offset', total: 'total', size: 10, parallel: true });
    const { http, meter } = await openClient(server.origin, { concurrency: 4 });
    const pages = await listed(http.pages({ path: '/users', records: 'data', paginate }));
    expect(pages.flat()).toEqual(Array.from({ length: 205 }, (_, id) => ({ id })));
    expect(meter.requests).toBe(21);
    expect(server.peak()).toBeLessThanOrEqual(4);
  });

  it('they are under way together', async () => {
    const server = await serve(reversing(90, 10, 4)); // answers only when four have been asked for
    const paginate = offset({ as: 'offset', total: 'total', size: 10, parallel: true });
    const { http } = await openClient(server.origin, { concurrency: 4 });
    const pages = await listed(http.pages({ path: '/users', records: 'data', paginate }));
    expect(pages.flat().length).toBe(90);
    expect(server.peak()).toBe(4);
  });

  it('a slow page does not keep those behind it from being asked for', async () => {
    const { opened, open } = gate();
    const asked: number[] = [];
    const server = await serve(async ({ url }, response) => {
      const start = Number(url.searchParams.get('offset') ?? 0);
      asked.push(start);
      if (start === 30) open(); // the one place that is left has been given on twice by then
      if (start === 10) await opened;
      json(response, { data: Array.from({ length: 10 }, (_, n) => ({ id: start + n })), total: 60 });
    });
    const paginate = offset({ as: 'offset', total: 'total', size: 10, parallel: true });
    const { http } = await openClient(server.origin, { concurrency: 2 });
    const pages = await listed(http.pages({ path: '/users', records: 'data', paginate }));
    expect(pages.flat()).toEqual(Array.from({ length: 60 }, (_, id) => ({ id })));
    expect(asked).toContain(50);
  });

  it('a page that was read as the run was told to stop comes to nobody', async () => {
    const stop = new AbortController();
    const wish = new Error('enough');
    const server = await serve(({ url }, response) => json(response, [{ url: url.search }]));
    const { http } = await openClient(server.origin, { signal: stop.signal });
    const edit = (record: Uint8Array) => {
      stop.abort(wish); // the last byte of the answer is here
      return record;
    };
    const pages = http.pages({ path: '/users', records: '', edit });
    await expect(listed(pages)).rejects.toBe(wish);
  });
});

describe('a page too large for memory', () => {
  const many = Array.from({ length: 12_000 }, (_, id) => ({ id, text: 'x'.repeat(1000) })); // 12 MB
  const text = JSON.stringify(many);

  it('lies in a private file until it is read', async () => {
    const server = await serve((_request, response) => response.end(text));
    const { http, scratch, scratched } = await openClient(server.origin);
    const page = await http.page(LIST);
    const [file] = await scratched();
    expect(file).toBeDefined();
    expect((await stat(join(scratch, file ?? ''))).mode & 0o077).toBe(0);
    expect(await recordsOf(page)).toEqual(many);
    expect(await scratched()).toEqual([]);
  });

  it('leaves no file when nobody wants it, or stops half way', async () => {
    const server = await serve((_request, response) => response.end(text));
    const { http, scratched } = await openClient(server.origin);
    await (await http.page(LIST)).discard();
    expect(await scratched()).toEqual([]);
    for await (const lines of (await http.page(LIST)).lines()) if (lines.length > 0) break;
    expect(await scratched()).toEqual([]);
  });

  it('leaves no file when its body breaks', async () => {
    const server = await serve((_request, response, nth) => {
      if (nth === 1) reset(response, text.slice(0, 10_000_000));
      else response.end(text);
    });
    const { http, scratched } = await openClient(server.origin);
    expect((await textOf(await http.page(LIST))).length).toBeGreaterThan(12_000_000);
    expect(await scratched()).toEqual([]);
  });

  it('leaves no file when a rule refuses what came with it', async () => {
    const server = await serve((_request, response, nth) => response.end(`{"ok":${nth > 1},"data":${text}}`));
    const { http, scratched } = await openClient(server.origin, { rules: [{ body: /"ok":false/, as: 'retry' }] });
    await (await http.page({ path: '/users', records: 'data' })).discard();
    expect(server.received.length).toBe(2);
    expect(await scratched()).toEqual([]);
  });

  it.each([
    ['asked for ahead', linkHeader()],
    ['one of several at once', offset({ as: 'page', total: 'total', size: 1, parallel: true })],
  ])('leaves no file when it was %s and the list is dropped', async (_name, paginate) => {
    const server = await serveSelf((self) => (request, response) => {
      const page = numberOf(request);
      if (page === 1 && request.url.searchParams.get('page') === null) {
        return json(response, { total: 2, data: [{ id: 1 }] }, 200, link(self, 2));
      }
      response.end(`{"total":2,"data":${text}}`);
    });
    const { http, meter, scratched } = await openClient(server.origin, { http: { paginate } });
    const pages = http.pages({ path: '/users', records: 'data' });
    await pages.next();
    const second = pages.next(); // the large one
    await vi.waitFor(async () => expect(await scratched()).not.toEqual([]), { timeout: 5000, interval: 5 });
    await (await second).value?.discard();
    expect(await scratched()).toEqual([]);
    const again = http.pages({ path: '/users', records: 'data' });
    await again.next();
    if (paginate.fromHeaders === true) {
      const bytes = meter.bytes;
      await vi.waitFor(() => expect(meter.bytes - bytes).toBeGreaterThan(12_000_000), { timeout: 5000, interval: 5 });
    }
    await again.return(undefined);
    await vi.waitFor(async () => expect(await scratched()).toEqual([]), { timeout: 2000, interval: 5 });
  });

  it('stops asking when the list is dropped', async () => {
    const held = gate();
    const closed = gate();
    const server = await serveSelf((self) => async (request, response) => {
      const page = numberOf(request);
      if (page === 1) return json(response, [{ page }], 200, link(self, 2));
      response.on('close', closed.open);
      response.writeHead(200, link(self, 3)).write('[');
      held.open();
    });
    const { http } = await openClient(server.origin, { http: { paginate: linkHeader() } });
    for await (const page of http.pages(LIST)) {
      await page.discard();
      await held.opened;
      break;
    }
    await closed.opened; // the connection of page 2 was let go
    expect(server.received.map((request) => numberOf(request)).filter((page) => page > 3)).toEqual([]);
  });
});

describe('a counted list', () => {
  it('ends with the first page that is not full, where no total is told', async () => {
    const server = await serve((request, response) => {
      const page = numberOf(request);
      json(
        response,
        Array.from({ length: page < 3 ? 10 : 4 }, (_, n) => ({ id: page * 100 + n })),
      );
    });
    const { http } = await openClient(server.origin);
    const pages = await listed(http.pages({ ...LIST, paginate: pageNumber({ as: 'page', size: 10 }) }));
    expect(pages.map((page) => page.length)).toEqual([10, 10, 4]);
  });

  it('a short page in its middle is no end, where a total is told', async () => {
    const server = await serve((request, response) => {
      const start = Number(request.url.searchParams.get('skip') ?? 0);
      const length = Math.min(start === 10 ? 3 : 10, 33 - start);
      json(response, { total: 33, data: Array.from({ length }, (_, n) => ({ id: start + n })) });
    });
    const { http } = await openClient(server.origin);
    const paginate = offset({ as: 'skip', total: 'total', size: 10 });
    const pages = await listed(http.pages({ path: '/users', records: 'data', paginate }));
    expect(pages.flat()).toEqual(Array.from({ length: 33 }, (_, id) => ({ id })));
  });
});

describe('a cursor in the body', () => {
  it('is sent along with what was sent before', async () => {
    const server = await serve(({ body }, response) => {
      const { after = '0' } = JSON.parse(body) as { after?: string };
      json(response, { data: [{ after }], ...(Number(after) < 3 ? { next: `${Number(after) + 1}` } : {}) });
    });
    const { http } = await openClient(server.origin);
    const paginate = cursor('next', { as: 'after', inBody: true });
    const request = { path: '/search', method: 'POST', repeatable: true, body: { filter: 'x' } } as const;
    await listed(http.pages({ ...request, records: 'data', paginate }));
    expect(server.received.map(({ body }) => JSON.parse(body))).toEqual([
      { filter: 'x' },
      { filter: 'x', after: '1' },
      { filter: 'x', after: '2' },
      { filter: 'x', after: '3' },
    ]);
  });
});

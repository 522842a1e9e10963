import type { ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import vendor from '../../src/simulator/vendor_qualys.ts';
import { collectOnce, interruptedRun, resultOf, storedLines } from '../support/run.ts';
import { serve } from '../support/server.ts';
import { starter } from '../support/vendor.ts';

const start = starter(vendor);

const envOf = (origin: URL) => ({ QUALYS_BASE_URL: origin.href, QUALYS_USERNAME: 'u', QUALYS_PASSWORD: 'p' });
const hosts = (inside: string) => `<HOST_LIST_OUTPUT><RESPONSE>${inside}</RESPONSE></HOST_LIST_OUTPUT>`;

function xml(response: ServerResponse, text: string, status = 200, headers: Readonly<Record<string, string>> = {}) {
  response.writeHead(status, { 'content-type': 'text/xml', ...headers }).end(text);
}

test('every resource comes whole, page after page by the URL in the warning', async () => {
  const running = await start();
  const { summary, folder } = await collectOnce({ env: running.env, only: ['qualys'] });
  expect(summary.exit_code).toBe(0);
  expect(summary.datasets).toHaveLength(3);
  for (const { resource } of summary.datasets) {
    expect(await storedLines(folder, `qualys_${resource}`)).toEqual(running.truth(resource));
  }
});

test('a record’s shape does not depend on how many of a thing it has', async () => {
  const one = '<HOST><ID>1</ID><TAGS><TAG><NAME>a</NAME></TAG></TAGS></HOST>';
  const two = '<HOST><ID>2</ID><TAGS><TAG><NAME>a</NAME></TAG><TAG><NAME> b </NAME></TAG></TAGS><DNS/></HOST>';
  const { origin } = await serve((_, response) => xml(response, hosts(`<HOST_LIST>${one}${two}</HOST_LIST>`)));
  const { folder } = await collectOnce({ env: envOf(origin), only: ['qualys.hosts'] });
  expect(await storedLines(folder, 'qualys_hosts')).toEqual([
    '{"ID":"1","TAGS":{"TAG":[{"NAME":"a"}]}}',
    '{"ID":"2","TAGS":{"TAG":[{"NAME":"a"},{"NAME":"b"}]},"DNS":null}',
  ]);
});

test('a vulnerability with one exploit and one way to sign in has lists of one', async () => {
  const exploit = '<EXPLOITS><EXPLT_SRC><EXPLT_LIST><EXPLT><REF>r</REF></EXPLT></EXPLT_LIST></EXPLT_SRC></EXPLOITS>';
  const more = '<AUTH_TYPE_LIST><AUTH_TYPE>Windows</AUTH_TYPE></AUTH_TYPE_LIST>';
  const vuln = `<VULN_LIST><VULN><QID>1</QID>${exploit}${more}</VULN></VULN_LIST>`;
  const root = 'KNOWLEDGE_BASE_VULN_LIST_OUTPUT';
  const { origin } = await serve((_, response) => xml(response, `<${root}><RESPONSE>${vuln}</RESPONSE></${root}>`));
  const { folder } = await collectOnce({ env: envOf(origin), only: ['qualys.vulnerabilities'] });
  expect(await storedLines(folder, 'qualys_vulnerabilities')).toEqual([
    '{"QID":"1","EXPLOITS":{"EXPLT_SRC":[{"EXPLT_LIST":{"EXPLT":[{"REF":"r"}]}}]},"AUTH_TYPE_LIST":{"AUTH_TYPE":["Windows"]}}',
  ]);
});

test('409 with a wait is waited for and asked again', async () => {
  const { origin, received } = await serve((_, response, nth) => {
    const told = { 'x-ratelimit-remaining': '0', 'x-ratelimit-limit': '300', 'x-ratelimit-towait-sec': '1' };
    if (nth === 1)
      return xml(response, '<SIMPLE_RETURN><RESPONSE><CODE>1965</CODE></RESPONSE></SIMPLE_RETURN>', 409, told);
    return xml(response, hosts('<HOST_LIST><HOST><ID>1</ID></HOST></HOST_LIST>'));
  });
  const { summary } = await collectOnce({ env: envOf(origin), only: ['qualys.hosts'], deadline: 20 });
  expect(resultOf(summary, 'qualys_hosts')).toMatchObject({ verdict: 'complete', records: 1 });
  expect(resultOf(summary, 'qualys_hosts').waited_ms).toBeGreaterThanOrEqual(900);
  expect(received).toHaveLength(2);
  expect(received[0]?.headers['x-requested-with']).toBe('cyber-collect');
});

test.each([
  [
    'a next URL on another host',
    '<WARNING><CODE>1980</CODE><URL>https://attacker.invalid/x</URL></WARNING>',
    'Refused for safety',
  ],
  ['a cut without a next URL', '<WARNING><CODE>1980</CODE></WARNING>', 'Data incomplete'],
])('%s is refused', async (_, warning, title) => {
  const body = hosts(`<HOST_LIST><HOST><ID>1</ID></HOST></HOST_LIST>${warning}`);
  const { origin } = await serve((_request, response) => xml(response, body));
  const { summary } = await collectOnce({ env: envOf(origin), only: ['qualys.hosts'] });
  expect(resultOf(summary, 'qualys_hosts')).toMatchObject({ verdict: 'failed', title });
});

test('a platform without the newest version is asked for the one before', async () => {
  const { origin, received } = await serve(({ url }, response) => {
    if (url.pathname.startsWith('/api/5.0/')) return xml(response, '<html/>', 404);
    return xml(response, hosts('<HOST_LIST><HOST><ID>1</ID></HOST></HOST_LIST>'));
  });
  const { summary } = await collectOnce({ env: envOf(origin), only: ['qualys.hosts'] });
  expect(resultOf(summary, 'qualys_hosts')).toMatchObject({ verdict: 'complete', records: 1 });
  expect(received.map(({ url }) => url.pathname)).toEqual(['/api/5.0/fo/asset/host/', '/api/4.0/fo/asset/host/']);
});

test('an account without hosts is empty, one without the KnowledgeBase is not licensed', async () => {
  const { origin } = await serve(({ url }, response) => {
    if (!url.pathname.includes('knowledge_base')) return xml(response, hosts('<DATETIME>now</DATETIME>'));
    return xml(response, '<SIMPLE_RETURN><RESPONSE><CODE>2012</CODE></RESPONSE></SIMPLE_RETURN>', 409);
  });
  const { summary } = await collectOnce({ env: envOf(origin), only: ['qualys.hosts', 'qualys.vulnerabilities'] });
  expect(resultOf(summary, 'qualys_hosts').verdict).toBe('empty');
  expect(resultOf(summary, 'qualys_vulnerabilities')).toMatchObject({ verdict: 'denied', title: 'Not licensed' });
});

test.each([
  ['409', 409, '1960'],
  ['409', 409, '1965'],
  ['200', 200, '1965'],
])('an answer with status %s and the code of a limit is waited for', async (_, status, code) => {
  const { origin, received } = await serve((_request, response, nth) => {
    const told = { 'x-ratelimit-remaining': '0', 'x-ratelimit-limit': '300', 'x-ratelimit-towait-sec': '1' };
    const limit = `<SIMPLE_RETURN><RESPONSE><CODE>${code}</CODE></RESPONSE></SIMPLE_RETURN>`;
    if (nth === 1) return xml(response, limit, status, told);
    return xml(response, hosts('<HOST_LIST><HOST><ID>1</ID></HOST></HOST_LIST>'));
  });
  const { summary } = await collectOnce({ env: envOf(origin), only: ['qualys.hosts'], deadline: 20 });
  expect(resultOf(summary, 'qualys_hosts')).toMatchObject({ verdict: 'complete', records: 1 });
  expect(received).toHaveLength(2);
});

test('results of scans are not stored, even where the platform sends them unasked', async () => {
  const results = '<RESULTS><![CDATA[password = canary]]></RESULTS>';
  const found = `<DETECTION_LIST><DETECTION><QID>7</QID>${results}</DETECTION></DETECTION_LIST>`;
  const list = `<HOST_LIST><HOST><ID>1</ID>${found}</HOST></HOST_LIST>`;
  const root = 'HOST_LIST_VM_DETECTION_OUTPUT';
  const { origin } = await serve((_, response) => xml(response, `<${root}><RESPONSE>${list}</RESPONSE></${root}>`));
  const { folder } = await collectOnce({ env: envOf(origin), only: ['qualys.host_detections'] });
  expect(await storedLines(folder, 'qualys_host_detections')).toEqual([
    '{"ID":"1","DETECTION_LIST":{"DETECTION":[{"QID":"7"}]}}',
  ]);
});

test('a run that was interrupted goes on behind its last page, with the version that it had', async () => {
  const { origin, received } = await serve(({ url }, response) => {
    if (url.pathname.startsWith('/api/5.0/')) return xml(response, '<html/>', 404);
    const id = Number(url.searchParams.get('id_min') ?? 0);
    const next = `<WARNING><CODE>1980</CODE><URL>${url.pathname}?action=list&amp;id_min=${id + 1}</URL></WARNING>`;
    const body = hosts(`<HOST_LIST><HOST><ID>${id}</ID></HOST></HOST_LIST>${id < 30 ? next : ''}`);
    setTimeout(() => xml(response, body), 20);
  });
  const choice = { env: envOf(origin), only: ['qualys.hosts'] };
  const { folder } = await interruptedRun(choice, () => received.length >= 10);
  const before = received.length;
  const { summary } = await collectOnce({ ...choice, folder });
  expect(summary.datasets).toMatchObject([{ verdict: 'complete', records: 31, resumed: true }]);
  const asked = received.slice(before);
  expect(asked.every(({ url }) => url.pathname.startsWith('/api/4.0/') && url.searchParams.has('id_min'))).toBe(true);
  expect((await storedLines(folder, 'qualys_hosts'))?.at(-1)).toBe('{"ID":"30"}');
});

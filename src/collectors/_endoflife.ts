import { CollectError } from '../errors.ts';
import { keeping, rawValue } from '../http/fields.ts';
import { RecordSplitter, type Split, type Splitter } from '../http/records.ts';
import { numberAt } from '../json.ts';

/** Takes the releases out of a list of products, each with its product's name and label behind. */
export const releases: Split = (options): Splitter => {
  const products = new RecordSplitter({ ...options, path: 'result', edit: (record) => Uint8Array.from(record) });
  let pieces: Uint8Array[] = [];
  let records = 0;
  const take = (parts: readonly Uint8Array[]) => {
    const bytes = Buffer.concat([...pieces, ...parts]);
    const end = bytes.lastIndexOf(0x0a) + 1;
    pieces = end < bytes.length ? [bytes.subarray(end)] : [];
    const lines: Uint8Array[] = [];
    for (let from = 0; from < end; ) {
      const to = bytes.indexOf(0x0a, from);
      const found = releasesOf(bytes.subarray(from, to), options);
      lines.push(...found.lines);
      records += found.records;
      from = to + 1;
    }
    return lines;
  };
  return {
    write: (chunk) => take(products.write(chunk)),
    end() {
      const { records: listed, ...facts } = products.end();
      const declared = numberAt(facts.body, 'total') ?? listed;
      if (facts.found && (listed === 0 || listed < declared)) {
        throw new CollectError('incomplete', `${listed} products came of ${declared} that endoflife.date declared`);
      }
      return { ...facts, records };
    },
  };
};

function releasesOf(product: Uint8Array, { edit, maxRecord }: Parameters<Split>[0]) {
  const { name, label } = JSON.parse(Buffer.from(product).toString()) as Record<string, string>;
  const keep = keeping({ _product: name ?? null, _product_label: label ?? null });
  const splitter = new RecordSplitter({
    path: '',
    edit: (record) => keep(edit?.(record) ?? record),
    ...(maxRecord === undefined ? {} : { maxRecord }),
  });
  const list = rawValue(product, ['releases']) ?? Buffer.from('null');
  const lines = splitter.write(Uint8Array.from(list));
  const { records, found } = splitter.end();
  if (!found) throw missing(name);
  return { lines, records };
}

/** A product that tells no releases. */
export function missing(product: string | undefined): CollectError {
  return new CollectError('vendor', `the product ${product ?? 'without a name'} has no list of releases`);
}

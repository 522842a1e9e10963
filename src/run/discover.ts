import { readdir } from 'node:fs/promises';
import type { Collector } from '../collectors/collector.ts';
import { CollectError } from '../errors.ts';
import type { Store } from '../stores/store.ts';

/** Every collector of the house: the `src_*` files beside the contract, by name. */
export async function discoverCollectors(): Promise<readonly Collector[]> {
  return scan<Collector>(new URL('../collectors/', import.meta.url), 'src_');
}

/** Every store of the house: the `store_*` files beside the contract, by name. */
export async function discoverStores(): Promise<readonly Store[]> {
  return scan<Store>(new URL('../stores/', import.meta.url), 'store_');
}

async function scan<T extends { readonly name: string }>(folder: URL, prefix: string): Promise<readonly T[]> {
  const files = (await readdir(folder)).filter(
    (file) => file.startsWith(prefix) && /\.(js|ts)$/.test(file) && !file.endsWith('.d.ts'),
  );
  const rooms = await Promise.all(
    files.sort().map(async (file) => {
      const room = ((await import(new URL(file, folder).href)) as { default?: T }).default;
      if (room?.name !== file.slice(prefix.length, -3))
        throw new CollectError('defect', `${file} exports no room of its name`);
      return room;
    }),
  );
  return rooms;
}

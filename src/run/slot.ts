import { createHash, randomUUID } from 'node:crypto';

/** The namespace of the upload ids of slots, for RFC 9562 version 5. */
const NAMESPACE = Buffer.from('7f1d6b0c3c3d4d0f9a540f6a3e0c9b51', 'hex');

/** The upload id of a dataset: the same for every attempt at a slot; a random one where there is none. */
export function uploadIdOf(slot: string | undefined, tenancy: string, tag: string): string {
  if (slot === undefined) return randomUUID();
  const hash = createHash('sha1').update(NAMESPACE).update(`${slot}/${tenancy}/${tag}`).digest();
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x50;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

import { awsAliases } from '../config/aws.ts';
import { type Environment, resolveShape } from '../config/environment.ts';
import { ConfigError } from '../errors.ts';
import { bucketShape, openSmallObjects, type SmallObjects } from '../stores/_s3.ts';
import { holderIn, type Slots } from './lock.ts';
import type { State } from './state.ts';

/** What machines that forget must know of earlier runs: its folders in the state. */
const SHARED = ['cursors', 'baselines', 'fields', 'chain', 'standing'];

/** What lies in a bucket that machines share. */
interface Shared {
  readonly state: State;
  readonly slots: Slots;
  close(): void;
}

/**
 * Opens the bucket at `s3://bucket/prefix`, which is reached as the S3 store reaches its own.
 * @throws {ConfigError | CollectError} for settings that are not valid
 */
export async function openShared(environment: Environment, place: string, local: State): Promise<Shared> {
  const [, bucket = '', prefix = ''] = /^s3:\/\/([^/]+)\/?(.*)$/.exec(place) ?? [];
  const { STORE_AWS_S3_BUCKET: _, ...shape } = bucketShape;
  const { values, problems } = resolveShape(environment, 'state', shape, awsAliases);
  if (values === undefined) throw new ConfigError(problems);
  const objects = await openSmallObjects({ ...values, STORE_AWS_S3_BUCKET: bucket });
  const folder = prefix.replace(/\/$/, '');
  return {
    state: sharedState(local, objects, folder),
    slots: bucketSlots(objects, folder, bucket),
    close: () => objects.close(),
  };
}

/** A state whose small part lies in a bucket, for machines that forget, or that are several; the rest stays here. */
function sharedState(local: State, objects: SmallObjects, prefix: string): State {
  const keyOf = (parts: readonly string[]) => [prefix, ...parts].filter((part) => part !== '').join('/');
  const isShared = ([folder = '']: readonly string[]) => SHARED.includes(folder);
  return {
    ...local,
    async read<T>(...parts: readonly string[]) {
      if (!isShared(parts)) return local.read<T>(...parts);
      const found = await objects.read(keyOf(parts));
      // What was there before the bucket was told of is still good.
      return found === undefined ? local.read<T>(...parts) : (JSON.parse(found.text) as T);
    },
    async write(value, ...parts) {
      if (isShared(parts)) await objects.write(keyOf(parts), JSON.stringify(value));
      return local.write(value, ...parts);
    },
  };
}

/** Locks as objects of a bucket, written on conditions. */
function bucketSlots(objects: SmallObjects, prefix: string, bucket: string): Slots {
  const keyOf = (tenancy: string, name: string) =>
    [prefix, 'locks', tenancy, `${name}.lock`].filter((part) => part !== '').join('/');
  return {
    nameOf: (tenancy, name) => `s3://${bucket}/${keyOf(tenancy, name)}`,
    async read(tenancy, name) {
      const found = await objects.read(keyOf(tenancy, name));
      return found === undefined ? undefined : { holder: holderIn(found.text), age: found.age, version: found.version };
    },
    // The moment makes each renewal another version.
    write: (tenancy, name, holder, over) =>
      objects.swap(keyOf(tenancy, name), JSON.stringify({ ...holder, renewed: Date.now() }), over),
    async remove(tenancy, name, version) {
      const found = await objects.read(keyOf(tenancy, name));
      if (found?.version === version) await objects.remove(keyOf(tenancy, name));
    },
  };
}

import { enum as oneOf, registry, string } from 'zod';

/** What settings are made of. The build puts it into this one file: all of zod is a hundred, which take a start 40 ms. */
export { oneOf, registry, string };

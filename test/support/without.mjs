// Lets no package resolve whose name begins as WITHOUT says, as on a machine where it is not installed.
import { register } from 'node:module';

const source = `
  export async function resolve(specifier, context, next) {
    if (!specifier.startsWith(${JSON.stringify(process.env.WITHOUT)})) return next(specifier, context);
    throw Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' });
  }`;
register(`data:text/javascript,${encodeURIComponent(source)}`);

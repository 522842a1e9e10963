import { readFile } from 'node:fs/promises';
import asc from 'assemblyscript/asc';
import { expect, it } from 'vitest';

const SOURCE = new URL('../../src/http/kernel.as.ts', import.meta.url);

/** The module that holds what the kernel's source compiles to. */
async function moduleOf(source: string): Promise<string> {
  const { error, stderr, binary } = await asc.compileString(
    { 'kernel.ts': source },
    { optimizeLevel: 3, noAssert: true, runtime: 'stub', initialMemory: 10, enable: ['simd'] },
  );
  if (error !== null || binary === null) throw new Error(`${error}\n${stderr}`);
  return [
    '// Generated from kernel.as.ts by test/http/kernel.test.ts.',
    '/** The kernel as WebAssembly, in base64. */',
    `export const KERNEL =\n  '${Buffer.from(binary).toString('base64')}';\n`,
  ].join('\n');
}

it('the kernel is what its source compiles to', async () => {
  const module = await moduleOf(await readFile(SOURCE, 'utf8'));
  await expect(module).toMatchFileSnapshot('../../src/http/kernel_wasm.ts');
});

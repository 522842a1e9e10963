import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/services/**', 'test/faults/**', 'test/bench/**'],
    globalSetup: 'test/support/build.ts',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    isolate: false, // no test mocks a module, so files may share those that are loaded
    maxWorkers: 2, // most tests wait; on two cores vitest would run one file at a time
  },
});

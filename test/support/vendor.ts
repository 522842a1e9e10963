import { afterEach } from 'vitest';
import { type RunningVendor, startVendor, type Vendor, type VendorOptions } from '../../src/simulator/vendor.ts';

/** Starts a vendor, small unless told; behind each test it ends, and fails the test if anything unexpected was asked. */
export function starter(vendor: Vendor, usual: VendorOptions = { scale: 60, pageSize: 25 }) {
  const started: RunningVendor[] = [];
  afterEach(async () => {
    for (const running of started.splice(0)) await running.finish();
  });
  return async (options: VendorOptions = {}, of: Vendor = vendor): Promise<RunningVendor> => {
    const running = await startVendor(of, { ...usual, ...options });
    started.push(running);
    return running;
  };
}

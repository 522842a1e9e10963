import { faultSuite } from '../support/fault_suite.ts';

await faultSuite(0);

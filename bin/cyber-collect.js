#!/usr/bin/env -S node --max-semi-space-size=1 --
import { main } from '../dist/cli.js';

// Who listened may be gone, such as head(1); a run still ends its work.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
process.exitCode = await main(process.argv.slice(2));
if (process.exitCode >= 124) process.exit(); // a store that still writes does not keep a run that was told to stop

#!/usr/bin/env -S node --max-semi-space-size=1 --
import { main } from '../dist/cli.js';

process.exitCode = await main(process.argv.slice(2));
if (process.exitCode >= 124) process.exit(); // a store that still writes does not keep a run that was told to stop

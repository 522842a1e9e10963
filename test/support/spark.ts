import { execFile } from 'node:child_process';
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const VERSION = '4.0.1';

/** The Python of a virtual environment with PySpark, made once in the user's cache folder; Java 17 must be there. */
export async function pythonWithSpark(): Promise<string> {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const folder = join(cache, 'cyber-collect-tests', `pyspark-${VERSION}`);
  const python = join(folder, 'bin', 'python');
  const ready = join(folder, 'ready');
  if ((await stat(ready).catch(() => undefined)) !== undefined) return python;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await run('python3', ['-m', 'venv', folder]);
  await run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `pyspark==${VERSION}`]);
  await writeFile(ready, '');
  return python;
}

const SESSION = `
import json, sys
from pyspark.sql import SparkSession
spark = (SparkSession.builder.master('local[1]')
  .config('spark.ui.enabled', 'false').config('spark.driver.bindAddress', '127.0.0.1')
  .config('spark.driver.host', '127.0.0.1').config('spark.driver.memory', '512m')
  .config('spark.sql.session.timeZone', 'UTC').config('spark.sql.shuffle.partitions', '1').getOrCreate())
spark.sparkContext.setLogLevel('OFF')
def rows(frame): return [json.loads(line) for line in frame.toJSON().collect()]
def types(frame): return dict(frame.dtypes)
answer = {}
`;

/** Runs Python that fills \`answer\` with the help of \`spark\`, \`rows(frame)\`, \`types(frame)\` and \`sys.argv\`. */
export async function askSpark<T>(script: string, args: readonly string[]): Promise<T> {
  const python = await pythonWithSpark();
  const program = `${SESSION}${script}\nprint('answer ' + json.dumps(answer))\nspark.stop()\n`;
  const { stdout } = await run(python, ['-c', program, ...args], {
    env: { ...process.env, SPARK_LOCAL_IP: '127.0.0.1', PYTHONHASHSEED: '0' },
    maxBuffer: 2 ** 26,
  });
  const line = stdout.split('\n').find((text) => text.startsWith('answer '));
  if (line === undefined) throw new Error(`Spark gave no answer: ${stdout}`);
  return JSON.parse(line.slice('answer '.length)) as T;
}

/** A variable that says where a real server is; a missing one is a failure, not a skip. */
export function needed(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') {
    throw new Error(`${name} is not set: these tests need the real server it names`);
  }
  return value;
}

export async function runDoctor(_options: { json: boolean }): Promise<number> {
  return 1;
}

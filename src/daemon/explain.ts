export function explainConfig(): string[] {
  return [];
}

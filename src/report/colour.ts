/** Colours texts. */
export type Paint = Readonly<
  Record<'bgRed' | 'bold' | 'cyan' | 'dim' | 'green' | 'red' | 'yellow', (text: string) => string>
>;

const same = (text: string) => text;

/** Leaves texts as they are. */
export const plain: Paint = { bgRed: same, bold: same, cyan: same, dim: same, green: same, red: same, yellow: same };

/** chalk, which is loaded only where there are colours. */
export async function paint(colour: boolean): Promise<Paint> {
  if (!colour) return plain;
  const { Chalk } = await import('chalk');
  return new Chalk({ level: 1 });
}

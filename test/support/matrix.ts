import { type FaultName, faultNames } from '../../src/simulator/faults.ts';
import { type Cell, type CellResult, nameOf, type Outcome } from './cell.ts';

const WORST: readonly Outcome[] = [
  'SILENT LOSS',
  'NOT REACHED',
  'undetectable',
  'quarantined',
  'denied',
  'failed',
  'complete',
];

/** The outcomes as a Markdown table, a row a dataset, a column a fault, and the reasons of the undetectable ones. */
export function matrixOf(cells: readonly Cell[], results: ReadonlyMap<string, CellResult | Error>): string {
  const rows = [...new Set(cells.map(datasetOf))];
  const faults = faultNames.filter((name) => cells.some(({ fault }) => fault === name));
  const outcomes = (row: string, fault: FaultName) => {
    const own = cells.filter((cell) => datasetOf(cell) === row && cell.fault === fault);
    const all = own.map((cell) => results.get(nameOf(cell)));
    const seen = new Set(
      all.map((result) => (result === undefined || result instanceof Error ? 'SILENT LOSS' : result.outcome)),
    );
    return WORST.filter((outcome) => seen.has(outcome)).join(', ');
  };
  const line = (parts: readonly string[]) => `| ${parts.join(' | ')} |`;
  const table = [
    line(['dataset', ...faults]),
    line(['---', ...faults.map(() => '---')]),
    ...rows.map((row) => line([row, ...faults.map((fault) => outcomes(row, fault))])),
  ];
  return [...table, '', ...reasons(cells, results)].join('\n');
}

function datasetOf({ vendor, resource }: Cell): string {
  return `${vendor.name}.${resource}`;
}

function reasons(cells: readonly Cell[], results: ReadonlyMap<string, CellResult | Error>): string[] {
  return cells.flatMap((cell) => {
    const result = results.get(nameOf(cell));
    if (result === undefined || result instanceof Error || result.outcome !== 'undetectable') return [];
    return [`- ${nameOf(cell)}: undetectable, for ${result.because}; ${result.guard}`];
  });
}

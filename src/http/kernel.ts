import { KERNEL } from './kernel_wasm.ts';
import { broken, FAULTS, PIECE, type Scan } from './scan.ts';

/** What of WebAssembly is used here; Node's types do not know it. */
interface Assembly {
  validate(bytes: Uint8Array): boolean;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: object };
}

interface Kernel {
  readonly memory: { readonly buffer: ArrayBuffer };
  scan(from: number, length: number): number;
}

// Where kernel.as.ts has it.
const STATE = 0;
const COUNT = 4;
const OPEN = 5;
const FAULT = 6;
const CHANGED = 7;
const ENDED = 6;
const KEPT = 2048;
const PIECE_AT = 2 ** 19;

let loaded: ReturnType<typeof load> | undefined;

function load() {
  const { WebAssembly: assembly } = globalThis as { WebAssembly?: Assembly };
  const bytes = Buffer.from(KERNEL, 'base64');
  if (assembly?.validate(bytes) !== true) return null;
  const { memory, scan } = new assembly.Instance(new assembly.Module(bytes)).exports as Kernel;
  return {
    scan,
    registers: new Int32Array(memory.buffer, 0, 8),
    kept: new Uint8Array(memory.buffer, 0, KEPT),
    bounds: new Int32Array(memory.buffer, KEPT, PIECE + 2),
    piece: new Uint8Array(memory.buffer, PIECE_AT, PIECE),
  };
}

/** A scan by the WebAssembly kernel, whose memory all scans share; undefined where there is no SIMD. */
export function kernelScan(): Scan | undefined {
  loaded ??= load();
  if (loaded === null) return undefined;
  const { scan, registers, kept, bounds, piece: room } = loaded;
  const state = new Uint8Array(KEPT);
  return {
    read(piece, from) {
      kept.set(state);
      room.set(piece);
      const at = scan(from, piece.length);
      state.set(kept);
      const fault = registers[FAULT] as number;
      if (fault !== 0) throw broken(FAULTS[fault]);
      if (registers[CHANGED] !== 0) piece.set(room.subarray(from, at), from);
      return {
        at,
        ended: registers[STATE] === ENDED,
        count: registers[COUNT] as number,
        bounds,
        open: registers[OPEN] as number,
      };
    },
  };
}

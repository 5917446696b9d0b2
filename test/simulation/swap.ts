import { registerHooks } from "node:module";

/** One top-level function of the product, exchanged while its module is loaded: the product itself knows nothing of it. */
export type Swap = {
  /** The module's path, from the root of the project. */
  module: string;
  function: string;
  /** Makes the function that takes the place of the real one. */
  by: (real: AnyFunction) => AnyFunction;
};

// oxlint-disable-next-line typescript/no-explicit-any -- it stands for every function of the product
export type AnyFunction = (...args: any[]) => any;

const registry = Symbol.for("simulation.swaps");

/** Only what is imported afterwards is exchanged. Throws, on import, when the module has no such function any more. */
export function installSwaps(swaps: readonly Swap[]): void {
  Object.assign(globalThis, { [registry]: swaps.map(({ by }) => by) });
  const done = new Set<Swap>();
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      const own = swaps.filter(({ module }) => url.endsWith(`/${module}`));
      if (own.length === 0) return loaded;
      let source = String(loaded.source);
      for (const swap of own) {
        source = exchanged(source, swap, swaps.indexOf(swap));
        done.add(swap);
      }
      return { ...loaded, source };
    },
  });
}

function exchanged(source: string, { module, function: name }: Swap, index: number): string {
  const declaration = new RegExp(`^(export )?(async )?function ${name}\\b`, "m");
  const [, exported] = declaration.exec(source) ?? [];
  if (!declaration.test(source)) throw new Error(`${module} has no function ${name} to exchange`);
  const renamed = source.replace(declaration, `$2function ${name}__real`);
  const made = `const ${name}: any = (globalThis as any)[Symbol.for("simulation.swaps")][${index}](${name}__real);`;
  return `${renamed}\n${made}\n${exported === undefined ? "" : `export { ${name} };\n`}`;
}

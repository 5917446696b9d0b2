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
  const made: Swap["by"][] = [];
  Object.assign(globalThis, { [registry]: made });
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      const own = swaps.filter(({ module }) => url.endsWith(`/${module}`));
      if (own.length === 0) return loaded;
      let source =
        typeof loaded.source === "string" ? loaded.source : new TextDecoder().decode(loaded.source ?? undefined);
      // Of several for one function, each takes the place of the one before.
      for (const [name, some = []] of Object.entries(Object.groupBy(own, (swap) => swap.function))) {
        source = exchanged(source, name, made.length);
        made.push((real) => some.reduce((known, { by }) => by(known), real));
      }
      return { ...loaded, source };
    },
  });
}

function exchanged(source: string, name: string, index: number): string {
  const declaration = new RegExp(`^(export )?(async )?function ${name}\\b`, "m");
  const found = declaration.exec(source);
  if (found === null) throw new Error(`No function ${name} to exchange`);
  const renamed = source.replace(declaration, `$2function ${name}__real`);
  const other = `const ${name}: any = (globalThis as any)[Symbol.for("simulation.swaps")][${index}](${name}__real);`;
  return `${renamed}\n${other}\n${found[1] === undefined ? "" : `export { ${name} };\n`}`;
}

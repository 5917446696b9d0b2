import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { judgeAudit } from "../../infra/audit.ts";
import { describeSupplyChain, licenceFaults, lockedPackages, withTables } from "../../infra/supply-chain.ts";
import { temporaryFolder } from "./stages.ts";

const lockfile: unknown = JSON.parse(readFileSync("package-lock.json", "utf8"));

describe("what is installed", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8")) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
    optionalDependencies: Record<string, string>;
    allowScripts: Record<string, boolean>;
  };
  const { packages } = lockfile as {
    packages: Record<string, { integrity?: string; inBundle?: boolean; hasInstallScript?: boolean }>;
  };
  const installed = Object.entries(packages).filter(([path]) => path !== "");

  test("is one version, exactly, and its hash is in the lockfile", () => {
    const { dependencies, devDependencies, optionalDependencies } = manifest;
    const versions = Object.values({ ...dependencies, ...devDependencies, ...optionalDependencies });
    expect(versions.filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    // What a package has in its own archive, that archive's hash covers.
    const unhashed = installed.filter(
      ([, { integrity, inBundle }]) => !inBundle && integrity?.startsWith("sha512-") !== true,
    );
    expect(unhashed.map(([path]) => path)).toEqual([]);
  });

  test("runs no script of its own but those that were looked at", () => {
    const scripts = installed.filter(([, { hasInstallScript }]) => hasInstallScript).map(([path]) => path);
    const allowed = Object.keys(manifest.allowScripts).map((name) => `node_modules/${name}`);
    expect(scripts.toSorted()).toEqual(allowed.toSorted());
  });
});

describe("licences", () => {
  test("of all packages in the lockfile are allowed", () => {
    expect(lockedPackages(lockfile).length).toBeGreaterThan(100);
    expect(licenceFaults(lockedPackages(lockfile))).toEqual([]);
  });

  test("that nobody allowed are named, and more is allowed for a tool than for what is shipped", () => {
    const packages = {
      "": {},
      "node_modules/a": { version: "1.0.0", license: "AGPL-3.0" },
      "node_modules/b": { version: "1.0.0", license: "MPL-2.0" },
      "node_modules/c": { version: "1.0.0", license: "MPL-2.0", dev: true },
      "node_modules/d/node_modules/@e/f": { version: "2.0.0", dev: true },
      "node_modules/g": { version: "1.0.0", license: "(MIT OR GPL-3.0-or-later)" },
    };
    expect(licenceFaults(lockedPackages({ packages }))).toEqual([
      "a 1.0.0: AGPL-3.0 (shipped)",
      "b 1.0.0: MPL-2.0 (shipped)",
      "@e/f 2.0.0: none named (tool)",
    ]);
  });

  test("and bundles are told in infra/supply-chain.md as they are", async () => {
    const page = readFileSync("infra/supply-chain.md", "utf8");
    const tables = await describeSupplyChain(join(temporaryFolder(), "functions"));
    expect(tables).toContain("our own code");
    expect(page, "npm run supply-chain brings it up to date").toBe(withTables(page, tables));
    // A cold start reads it all: one mention of `z.core` as a value once brought 450 kB of languages and JSON Schema.
    const all = /^\| \*\*all\*\* \|(.*)\|$/m.exec(tables)?.[1]?.split("|").map(Number) ?? [];
    expect(all.length).toBeGreaterThanOrEqual(6);
    expect(Math.max(...all)).toBeLessThan(650);
  });
});

describe("the audit", () => {
  test("that was not answered is not taken for an all-clear", () => {
    for (const text of ["", "npm error", '{"error":{"code":"EAUDIT"}}']) {
      expect(judgeAudit(text)).toMatchObject({ exitCode: 3, words: expect.stringContaining("AUDIT NOT MADE") });
    }
  });

  test("names what is high or critical, and nothing less", () => {
    const low = { mild: { severity: "low", range: "<1" } };
    expect(judgeAudit(JSON.stringify({ vulnerabilities: low }))).toMatchObject({ exitCode: 0 });
    const high = { ...low, bad: { severity: "high", range: "<2" }, worse: { severity: "critical", range: "*" } };
    expect(judgeAudit(JSON.stringify({ vulnerabilities: high }))).toEqual({
      exitCode: 1,
      words: "bad <2: high\nworse *: critical",
    });
  });
});

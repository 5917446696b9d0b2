import type { LedgerCall } from "../../infra/local/meta/meta-model.ts";
import { startMetaStandIn } from "../../infra/local/meta/meta-server.ts";
import type { Variants } from "../../infra/local/meta/meta-variants.ts";
import type { WorldInput } from "../../infra/local/meta/meta-world.ts";
import { localStage } from "../../infra/config.ts";

const partner = localStage.partnerBusinessId;
export const line = localStage.creditLineId;
export const systemToken = "EAAsystemTokenOfThePartner0123456789";

/** The stand-in for Meta, with the partner, its line and its token; a test adds customers of its own. */
export async function startMeta(variants: Partial<Variants> = {}, now: () => number = Date.now) {
  const standIn = await startMetaStandIn({
    world: {
      partnerBusinessId: partner,
      lines: [{ id: line, ownerBusinessId: partner }],
      tokens: [{ value: systemToken, kind: "system" }],
    },
    variants,
    now,
  });
  const { url, model } = standIn;
  let customers = 0;

  async function post(path: string, body: unknown): Promise<void> {
    const response = await fetch(url + path, { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
  }

  return {
    ...standIn,
    world: (world: Partial<WorldInput>) => post("/_world", world),
    /** The faults that are still to come; earlier ones are dropped. */
    faults: (...faults: unknown[]) => post("/_faults", faults),
    variants: (changed: Partial<Variants>) => post("/_variants", changed),

    /** A new business with `wabaCount` WABAs and a business token of its own. Its ids do not fit into a double. */
    async customer(wabaCount = 1, currency = "EUR") {
      customers += 1;
      const number = String(customers).padStart(6, "0");
      const businessId = `98765432109${number}001`;
      const wabaIds = Array.from(
        { length: wabaCount },
        (_, index) => `98765432109${number}1${String(index).padStart(2, "0")}`,
      );
      const token = `EAAbusinessTokenOfCustomer${number}xyz`;
      await post("/_world", {
        businesses: [{ id: businessId, name: `Customer ${number}` }],
        wabas: wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency })),
        tokens: [{ value: token, kind: "business", wabaIds }],
      });
      const [wabaId = ""] = wabaIds;
      return { businessId, wabaId, wabaIds, token };
    },

    /** The calls of one kind, and that name one of these ids (in path or query). */
    calls(name: string, ...ids: string[]): LedgerCall[] {
      return model.calls.filter((call) => {
        const named = [...call.path.split("/"), ...Object.values(call.query)];
        return call.name.split("+").includes(name) && (ids.length === 0 || ids.some((id) => named.includes(id)));
      });
    },
  };
}

export type Meta = Awaited<ReturnType<typeof startMeta>>;

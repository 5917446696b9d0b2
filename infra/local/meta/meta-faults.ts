import * as z from "zod";
import type { ReceivedCall } from "./meta-graph.ts";
import type { MetaModel } from "./meta-model.ts";

/** What may go wrong on the way to Meta and back. `…-before`: the call has no effect; `…-after`: the effect stays, the answer is lost. */
export const faultsSchema = z.array(
  z.strictObject({
    /** A call's name ("E2"), "POST /part/of/path", a part of the path, or "*". */
    match: z.string().min(1),
    /** Only calls that concern this WABA or business. */
    wabaId: z.string().optional(),
    businessId: z.string().optional(),
    times: z.int().min(1).default(1),
    kind: z.enum([
      "throttle",
      "5xx-before",
      "5xx-after",
      "cut-before",
      "cut-after",
      "hang-before",
      "hang-after",
      "error-before",
      "error-after",
      "latency",
    ]),
    /** hang: until the socket is cut (60,000). latency: until the call is applied and answered (1,000). throttle: until access is regained, told in whole minutes (60,000). */
    ms: z.number().min(0).optional(),
    /** Of the `error-…` kinds (1). */
    code: z.int().optional(),
    subcode: z.int().optional(),
  }),
);

export type Fault = z.output<typeof faultsSchema>[number];

/** The first fault that fits the call, used once; spent ones leave the list. */
export function takeFault(faults: Fault[], model: MetaModel, call: ReceivedCall): Fault | undefined {
  const index = faults.findIndex((fault) => fits(fault, model, call));
  const fault = faults[index];
  if (fault === undefined) return undefined;
  fault.times -= 1;
  if (fault.times === 0) faults.splice(index, 1);
  call.entry.fault = fault.kind;
  return fault;
}

function fits({ match, wabaId, businessId }: Fault, model: MetaModel, { entry }: ReceivedCall): boolean {
  const [, method, part = match] = /^(GET|POST|DELETE) (.+)$/.exec(match) ?? [];
  const isCall =
    match === "*" ||
    entry.name.split("+").includes(match) ||
    (entry.path.includes(part) && (method === undefined || method === entry.method));
  const subjects = wabaId === undefined && businessId === undefined ? [] : subjectsOf(model, entry);
  return [wabaId, businessId].every((id) => id === undefined || subjects.includes(id)) && isCall;
}

function subjectsOf(model: MetaModel, entry: ReceivedCall["entry"]): (string | undefined)[] {
  const named = [...entry.path.split("/"), ...Object.values(entry.query)];
  const owners = named.map(
    (id) => model.wabas.get(id)?.ownerBusinessId ?? model.allocations.get(id)?.receivingBusinessId,
  );
  return [...named, ...owners];
}

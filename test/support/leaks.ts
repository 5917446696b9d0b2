/** A secret as it may stand in a text: as it is, and in the forms that texts on a wire or in a log take. */
export function formsOf(secret: string): Record<string, string> {
  const json = JSON.stringify(secret).slice(1, -1);
  return {
    raw: secret,
    base64: withoutEnds(Buffer.from(secret).toString("base64")),
    // Behind one or two other bytes the same letters come out as others.
    "base64, shifted by one": withoutEnds(Buffer.from(` ${secret}`).toString("base64")),
    "base64, shifted by two": withoutEnds(Buffer.from(`  ${secret}`).toString("base64")),
    base64url: withoutEnds(Buffer.from(secret).toString("base64url")),
    "URL-encoded": encodeURIComponent(secret),
    "form-encoded": new URLSearchParams({ secret }).toString().slice("secret=".length),
    "JSON-escaped": json,
    "JSON-escaped twice": JSON.stringify(json).slice(1, -1),
  };
}

/** The first and last letters share their bits with the neighbours. */
function withoutEnds(base64: string): string {
  return base64.replace(/=+$/, "").slice(4, -2);
}

/** Every place that holds a secret in any form: "logs: the system token (URL-encoded)". Never the secret itself. */
export function leaksIn(places: Readonly<Record<string, string>>, secrets: Readonly<Record<string, string>>): string[] {
  return Object.entries(places).flatMap(([place, content]) =>
    Object.entries(secrets).flatMap(([name, secret]) =>
      Object.entries(formsOf(secret))
        .filter(([, form]) => content.includes(form))
        .map(([form]) => `${place}: ${name} (${form})`),
    ),
  );
}

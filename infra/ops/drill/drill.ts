import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Drill, drills } from "./drills.ts";
import { openRoom } from "./room.ts";
import { fillIn, readRunbook } from "./runbook.ts";

const help = `npm run drill -- NAME | --list | --all

Plays an incident on a local stack, runs the commands that its runbook begins with, and asks Meta's ledger and the events
whether it is over. Then the same without the first command: it must not be over, or the runbook proves nothing.

  --list     the drills
  --all      all of them, one after the other
  --verbose  print what the commands say`;

/** An incident that its commands end is over by then; one that lacks them must still be there. */
const healMsMax = 60_000;
const stayMs = 6000;

/**
 * Plays a drill once.
 * @param skip how many commands of the runbook are left out, from the first on.
 * @returns what is still wrong in the end.
 */
export async function playDrill(drill: Drill, skip: number, say: (line: string) => void): Promise<string[]> {
  const { commands } = readRunbook(drill.name);
  const room = await openRoom(drill.webhook === true);
  try {
    const values = await drill.strike(room);
    const before = await drill.wrongs(room);
    if (before.length === 0) throw new Error(`${drill.name}: the incident did not happen`);
    for (const [index, command] of commands.slice(skip).entries()) {
      // Two scans within one settle window would be one look; a person lets it pass.
      if (index > 0) await sleep(room.stack.config.settleWindowSeconds * 1000 + 1000);
      const filled = fillIn(command, values);
      const { code, output } = await room.run(filled);
      say(`$ ${filled}\n${output.trim()}\n(${code})`);
    }
    const patienceMs = skip === 0 ? healMsMax : stayMs;
    let wrongs = await drill.wrongs(room);
    for (
      const end = Date.now() + patienceMs;
      wrongs.length > 0 && Date.now() < end;
      wrongs = await drill.wrongs(room)
    ) {
      // The schedule's minutes are seconds here.
      await room.sweep();
      await sleep(400);
    }
    return wrongs;
  } finally {
    await room.close();
  }
}

async function runDrill(drill: Drill, say: (line: string) => void): Promise<boolean> {
  const { title, commands } = readRunbook(drill.name);
  console.log(`${drill.name}: ${title}`);
  const wrongs = await playDrill(drill, 0, say);
  for (const wrong of wrongs) console.log(`  still wrong: ${wrong}`);
  const without = await playDrill(drill, 1, say);
  if (without.length === 0) console.log(`  over without its first command: ${commands[0] ?? ""}`);
  const passed = wrongs.length === 0 && without.length > 0;
  console.log(passed ? "  passed; without the first command it stays" : "  FAILED");
  return passed;
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      list: { type: "boolean" },
      all: { type: "boolean" },
      verbose: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.list === true) {
    for (const { name } of drills) console.log(`${name.padEnd(24)} ${readRunbook(name).title}`);
    return;
  }
  const unknown = positionals.filter((given) => !drills.some(({ name }) => name === given));
  if (unknown.length > 0) console.error(`There is no drill ${unknown.join(", ")}: --list names them`);
  const chosen = values.all === true ? drills : drills.filter(({ name }) => positionals.includes(name));
  if (values.help === true || chosen.length === 0 || unknown.length > 0) {
    console.log(help);
    process.exitCode = values.help === true ? 0 : 2;
    return;
  }
  function say(text: string): void {
    if (values.verbose === true) console.log(text.replaceAll(/^/gm, "    "));
  }
  const results: boolean[] = [];
  for (const drill of chosen) results.push(await runDrill(drill, say));
  const failed = results.filter((passed) => !passed).length;
  console.log(`${results.length - failed} of ${results.length} drills passed`);
  if (failed > 0) process.exitCode = 1;
}

if (import.meta.main) await main();

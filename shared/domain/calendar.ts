const dayMs = 86_400_000;

/** The first instant (UTC, ms) of the month after the one `now` is in. Proleptic Gregorian, without a clock. */
export function startOfNextMonth(now: number): number {
  const { year, month } = civilDate(Math.floor(now / dayMs));
  return month === 12 ? daysFromCivil(year + 1, 1) * dayMs : daysFromCivil(year, month + 1) * dayMs;
}

/** Meta refuses a partner switch in the last 3 and first 4 days of a month (M); whose midnight counts it does not say: a day more on each side. */
const closedDaysBefore = 4;
const closedDaysAfter = 5;

/** When the closed window of partner switches that `now` lies in is over, or undefined outside one (H27n). */
export function switchWindowEnd(now: number): number | undefined {
  const next = startOfNextMonth(now);
  if (now >= next - closedDaysBefore * dayMs) return next + closedDaysAfter * dayMs;
  const { year, month } = civilDate(Math.floor(now / dayMs));
  const end = daysFromCivil(year, month) * dayMs + closedDaysAfter * dayMs;
  return now < end ? end : undefined;
}

/** When a switch that a revocation overtook is looked at once more: the 5th of the month it would have taken effect in (R6). */
export function recheckAfterSwitch(switchesAt: number): number {
  return switchesAt + 4 * dayMs;
}

/** Days since 1970-01-01 of the first day of a month. Years are counted from March, so that the leap day is the last one. */
function daysFromCivil(year: number, month: number): number {
  const marchYear = month <= 2 ? year - 1 : year;
  const monthFromMarch = (month + 9) % 12;
  const dayOfYear = Math.floor((153 * monthFromMarch + 2) / 5);
  const leapDays = Math.floor(marchYear / 4) - Math.floor(marchYear / 100) + Math.floor(marchYear / 400);
  return marchYear * 365 + leapDays + dayOfYear - 719_468;
}

function civilDate(days: number): { year: number; month: number } {
  let year = 1970 + Math.floor(days / 365.2425);
  while (daysFromCivil(year, 1) > days) year -= 1;
  while (daysFromCivil(year + 1, 1) <= days) year += 1;
  let month = 12;
  while (daysFromCivil(year, month) > days) month -= 1;
  return { year, month };
}

const dayMs = 86_400_000;

/** The first instant (UTC, ms) of the month after the one `now` is in. Proleptic Gregorian, without a clock. */
export function startOfNextMonth(now: number): number {
  const { year, month } = civilDate(Math.floor(now / dayMs));
  return month === 12 ? daysFromCivil(year + 1, 1) * dayMs : daysFromCivil(year, month + 1) * dayMs;
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

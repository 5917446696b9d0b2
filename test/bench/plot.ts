/** A line chart as SVG, with no part of anybody's library: two axes, a legend, and one line for each series. */
export type Chart = {
  /** The file's name, without its ending. */
  name: string;
  title: string;
  x: { label: string; isLog?: boolean };
  y: { label: string };
  series: { name: string; points: [x: number, y: number][] }[];
};

const width = 720;
const height = 360;
const margin = { left: 70, right: 20, top: 40, bottom: 75 };
const colours = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];

export function svgOf({ title, x, y, series }: Chart): string {
  const points = series.flatMap((one) => one.points);
  const xs = points.map(([one]) => scaleX(one));
  const [xMin, xMax] = [Math.min(...xs), Math.max(...xs)];
  const yTicks = ticks(Math.max(...points.map(([, one]) => one), 0));
  const yMax = yTicks.at(-1) ?? 1;

  function scaleX(value: number): number {
    return x.isLog === true ? Math.log10(value) : value;
  }
  function left(value: number): number {
    const share = xMax === xMin ? 0.5 : (scaleX(value) - xMin) / (xMax - xMin);
    return round(margin.left + share * (width - margin.left - margin.right));
  }
  function top(value: number): number {
    return round(height - margin.bottom - (value / yMax) * (height - margin.top - margin.bottom));
  }

  const xTicks = x.isLog === true ? [...new Set(points.map(([one]) => one))] : ticks(xMax).filter((one) => one >= xMin);
  const bottom = height - margin.bottom;
  const parts = [
    `<text x="${width / 2}" y="22" text-anchor="middle" font-size="15">${escaped(title)}</text>`,
    ...yTicks.flatMap((tick) => [
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${top(tick)}" y2="${top(tick)}" stroke="#ddd"/>`,
      `<text x="${margin.left - 8}" y="${top(tick) + 4}" text-anchor="end">${label(tick)}</text>`,
    ]),
    ...xTicks
      .filter((tick) => scaleX(tick) <= xMax)
      .map((tick) => `<text x="${left(tick)}" y="${bottom + 18}" text-anchor="middle">${label(tick)}</text>`),
    `<text x="${width / 2}" y="${bottom + 38}" text-anchor="middle">${escaped(x.label)}</text>`,
    `<text x="16" y="${height / 2}" text-anchor="middle" transform="rotate(-90 16 ${height / 2})">${escaped(y.label)}</text>`,
    ...series.flatMap(({ name, points: line }, index) => {
      const colour = colours[index % colours.length];
      const path = line.map(([one, other]) => `${left(one)},${top(other)}`).join(" ");
      const at = margin.left + index * 150;
      return [
        `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        `<line x1="${at}" x2="${at + 22}" y1="${height - 14}" y2="${height - 14}" stroke="${colour}" stroke-width="2"/>`,
        `<text x="${at + 28}" y="${height - 10}">${escaped(name)}</text>`,
      ];
    }),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}

/** Round numbers from 0 to just above the greatest value. */
function ticks(max: number): number[] {
  if (max <= 0) return [0, 1];
  const rough = max / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((one) => one * power >= rough) ?? 10) * power;
  return Array.from({ length: Math.ceil(max / step) + 1 }, (_, index) => Number((index * step).toPrecision(6)));
}

function label(value: number): string {
  return value >= 10_000 ? `${value / 1000}k` : String(value);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// Figures as people read them. A figure that is not known is a dash, never a zero.

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const said = (shown) => (value, ...more) => (known(value) ? shown(value, ...more) : "–");

export const count = said((n) => Math.round(n).toLocaleString("en"));
export const percent = said((share, digits = 1) => `${(share * 100).toFixed(digits)} %`);
export const cosine = said((value) => value.toFixed(3));
export const rate = said((n) => (n >= 100 ? n.toFixed(0) : n.toFixed(n >= 10 ? 1 : 2)));
export const money = said((amount, currency = "USD") =>
  amount.toLocaleString("en", { style: "currency", currency, maximumFractionDigits: amount >= 100 ? 0 : amount >= 1 ? 2 : 4 }));

export const milliseconds = said((ms) => {
  const size = Math.abs(ms);
  if (size < 1) return `${ms.toFixed(2)} ms`;
  if (size < 1000) return `${ms.toFixed(size < 10 ? 1 : 0)} ms`;
  return duration(ms / 1000);
});

export const duration = said((seconds) => {
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const [name, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? ["s", 1];
  const value = seconds / size;
  return `${value.toFixed(Number.isInteger(value) || value >= 100 ? 0 : 1)} ${name}`;
});

export const bytes = said((n) => {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i += 1; }
  return `${n.toFixed(n >= 100 || i === 0 ? 0 : 1)} ${units[i]}`;
});

export const time = said((at) => new Date(at * 1000).toLocaleTimeString("en-GB"));
export const moment = said((at) => new Date(at * 1000).toLocaleString("en-GB"));

export function interval(estimate) {
  if (!estimate || estimate.wrong_rate === null || estimate.wrong_rate === undefined) return "no verdict yet";
  return `${percent(estimate.wrong_rate)} (${percent(estimate.wrong_rate_lower)} to ${percent(estimate.wrong_rate_upper)})`;
}

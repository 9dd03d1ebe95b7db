// Buckets of /stats/history as sums over categories, with empty ones where nothing was called.

const SUMS = ["requests", "exact", "semantic", "inflight", "stale", "misses", "bypasses", "shadow", "errors",
  "saved_ms", "tokens_saved", "cost_saved", "right", "wrong"];

function empty(start, bins) {
  const point = { start, pressure: 0, hit_ms: new Array(bins).fill(0), other_ms: new Array(bins).fill(0) };
  for (const name of SUMS) point[name] = 0;
  return point;
}

function add(point, row) {
  for (const name of SUMS) point[name] += row[name];
  for (const name of ["hit_ms", "other_ms"]) row[name].forEach((n, i) => { point[name][i] += n; });
  point.pressure += row.pressure * row.requests;
}

export function series(past, category) {
  const bins = past.latency_edges_ms.length + 1;
  const points = [];
  for (const { start, categories } of past.buckets) {
    const last = points.at(-1);
    // A gap is drawn as nothing: one empty bucket after the last full one, one before the next.
    if (last && start - last.start > past.step) {
      points.push(empty(last.start + past.step, bins));
      if (start - last.start > 2 * past.step) points.push(empty(start - past.step, bins));
    }
    const point = empty(start, bins);
    for (const [name, row] of Object.entries(categories)) if (!category || name === category) add(point, row);
    if (point.requests) point.pressure /= point.requests;
    points.push(point);
  }
  return points;
}

export function sumOver(points) {
  const whole = empty(0, points[0]?.hit_ms.length ?? 0);
  for (const point of points) add(whole, point);
  return whole;
}

// Calls that the cache may answer: bypassed ones never could be.
export const looked = (point) => point.requests - point.bypasses;

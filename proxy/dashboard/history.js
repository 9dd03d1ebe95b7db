// Buckets of /stats/history?total=true, with empty ones where nothing was called.

const SUMS = ["requests", "exact", "semantic", "inflight", "stale", "misses", "bypasses", "shadow", "errors",
  "saved_ms", "tokens_saved", "cost_saved", "right", "wrong"];

function empty(start, bins) {
  const point = { start, pressure: 0, hit_ms: new Array(bins).fill(0), other_ms: new Array(bins).fill(0) };
  for (const name of SUMS) point[name] = 0;
  return point;
}

export function series(past) {
  const bins = past.latency_edges_ms.length + 1;
  const points = [];
  for (const { start, total } of past.buckets) {
    const last = points.at(-1);
    // A gap is drawn as nothing: one empty bucket after the last full one, one before the next.
    if (last && start - last.start > past.step) {
      points.push(empty(last.start + past.step, bins));
      if (start - last.start > 2 * past.step) points.push(empty(start - past.step, bins));
    }
    points.push({ start, ...total });
  }
  return points;
}

export function sumOver(points) {
  const whole = empty(0, points[0]?.hit_ms.length ?? 0);
  for (const point of points) {
    for (const name of SUMS) whole[name] += point[name];
    for (const name of ["hit_ms", "other_ms"]) point[name].forEach((n, i) => { whole[name][i] += n; });
  }
  return whole;
}

// Calls that the cache may answer: bypassed ones never could be.
export const looked = (point) => point.requests - point.bypasses;

// As good as the bins are: within one, calls are taken to be spread evenly. Beyond the last edge it is that edge.
export function quantile(counts, edges, share) {
  const all = counts.reduce((sum, n) => sum + n, 0);
  if (!all) return null;
  let below = 0;
  const bin = counts.findIndex((n) => { below += n; return below >= share * all; });
  if (bin >= edges.length) return edges.at(-1);
  const low = bin ? edges[bin - 1] : 0;
  return low + (edges[bin] - low) * (1 - (below - share * all) / counts[bin]);
}

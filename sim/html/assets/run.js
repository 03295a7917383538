"use strict";
// The page of one run: where time and energy went, roofline, timeline, operators.
const UNITS = { array: "arrays", vector: "vector", dram: "DRAM", port: "ports", noc: "network", dma: "DMA", cache: "cache", host: "host", chip_links: "other chips" };
const LIMITS = { array: ["arrays", "circle"], dram: ["DRAM bandwidth", "square"], vector: ["vector units", "triangle-up"], dma: ["DMA", "diamond"],
  noc: ["on-chip links", "cross"], port: ["memory ports", "x"], cache: ["cache", "star"], host: ["host link", "pentagon"], chip_links: ["links to other chips", "pentagon"], dispatch: ["kernel launches", "hexagon"] };

// At the foot of a figure, however many lines of it there are.
const BELOW = { orientation: "h", yref: "container", y: 0, yanchor: "bottom" };

function stacked(title, parts, colours, metric) {
  const total = parts.reduce((sum, [, value]) => sum + value, 0);
  const share = part => part < 0.0005 ? "<0.1 %" : `${(100 * part).toFixed(1)} %`;
  const traces = parts.filter(([, value]) => value > 0).map(([name, value, key]) => ({
    type: "bar", orientation: "h", x: [value], y: [""], name: `${name} ${share(value / total)}`,
    marker: { color: colours[key], line: { color: "white", width: 1 } },
    hovertemplate: `${name}: ${format(metric, value)}<extra></extra>`,
  }));
  return [traces, layout(`${title}: ${format(metric, total)}`, {
    barmode: "stack", height: 400, xaxis: axis(metric, { title: undefined }), yaxis: { visible: false },
    legend: { orientation: "h", traceorder: "normal", y: -0.14, font: { size: 11 } } })];
}

function drawRoofline(data) {
  const ops = data.tables.ops, on = ops.name.map((_, i) => i).filter(i => ops.macs[i] > 0 && ops.macs_per_dram_byte[i] > 0);
  const longest = Math.max(...on.map(i => ops.time_s[i]));
  // A trace for every kind of resource that limits operators, so that the legend names it.
  const groups = Object.keys(LIMITS).map(kind => [kind, on.filter(i => ops.bound_by[i] === kind)]).filter(([, rows]) => rows.length);
  const points = groups.map(([kind, rows]) => ({ type: "scatter", mode: "markers", x: rows.map(i => ops.macs_per_dram_byte[i]), y: rows.map(i => ops.achieved_macs_per_s[i]),
    customdata: rows, text: rows.map(i => `${ops.name[i]}<br>${format("time_s", ops.time_s[i])}, limited by ${LIMITS[kind][0]}`),
    hovertemplate: "%{text}<br>%{x:.3s} MAC/B, %{y:.3s}MAC/s<extra></extra>", name: LIMITS[kind][0],
    marker: { color: data.colours.units[kind], symbol: LIMITS[kind][1], size: rows.map(i => Math.max(6, 22 * Math.sqrt(ops.time_s[i] / longest))),
      line: { color: "white", width: 1 } } }));
  const { bytes_per_s: bandwidth, macs_per_s: peaks } = data.roofs;
  const highest = Math.max(...Object.values(peaks), 1), ridge = highest / bandwidth;
  const across = on.map(i => ops.macs_per_dram_byte[i]), low = Math.min(ridge, ...across) / 3, high = Math.max(ridge, ...across) * 3;
  const line = (x, y, name) => ({ type: "scatter", mode: "lines", x, y, name, line: { color: "black", width: 1.5 }, hoverinfo: "name" });
  const roofs = Object.entries(peaks).map(([dtype, peak]) => line([peak / bandwidth, high], [peak, peak], `arrays, ${dtype}: ${format("x_macs_per_s", peak)}`));
  roofs.push(line([low, ridge], [low * bandwidth, highest], `DRAM: ${format("x_bytes_per_s", bandwidth)}`));
  const box = document.getElementById("roofline");
  Plotly.newPlot(box, [...points, ...roofs], layout("Roofline: operators by what limits them (area: their time)", { height: 440,
    xaxis: { type: "log", title: { text: "arithmetic intensity (MAC per DRAM byte)" }, gridcolor: "#eee" },
    yaxis: { type: "log", title: { text: "MAC/s while the operator is active" }, exponentformat: "SI", gridcolor: "#eee" },
    legend: { orientation: "h", y: -0.3, itemsizing: "constant" } }), CONFIG);
  box.on("plotly_click", event => { const row = event.points[0].customdata; if (row !== undefined) choose(row); });
  // Marks an operator's point, where it has one.
  return row => groups.forEach(([, rows], at) => Plotly.restyle(box, { selectedpoints: [rows.includes(row) ? [rows.indexOf(row)] : on.includes(row) ? [] : null] }, [at]));
}

const QUEUES = ["host", "port", "dispatch", "array", "vector", "load", "store", "send", "sync"];
const MOST_ROWS = 64, PER_VIEW = 8, BINS = 400;

// The queues of a run in the order of the page, and what a reader may look at: all of them where they are few, else each
// kind together, with its busy share, or some cores with every queue of theirs.
function queues(spans) {
  const first = Object.fromEntries(spans.resource.map((name, i) => [name, i]));
  const core = name => spans.core[first[name]], unit = name => spans.unit[first[name]];
  const names = [...new Set(spans.resource)];
  names.sort((a, b) => core(a) - core(b) || QUEUES.indexOf(unit(a)) - QUEUES.indexOf(unit(b)) || (a < b ? -1 : 1));
  const kinds = QUEUES.map(kind => names.filter(name => unit(name) === kind)).filter(members => members.length);
  if (names.length <= MOST_ROWS) return { views: [{ label: "all", rows: names.map(name => [name, [name]]) }], unit };
  const together = kinds.flatMap(members => members.length > 4 ? [[`${members.length} x ${unit(members[0])}`, members]] : members.map(name => [name, [name]]));
  const cores = [...new Set(names.map(core))].filter(number => number >= 0), views = [{ label: "all cores, by kind of queue", rows: together }];
  for (let at = 0; at < cores.length; at += PER_VIEW) {
    const some = new Set(cores.slice(at, at + PER_VIEW));
    views.push({ label: `cores ${cores[at]} to ${cores[Math.min(at + PER_VIEW, cores.length) - 1]}`, rows: names.filter(name => some.has(core(name))).map(name => [name, [name]]) });
  }
  views.push({ label: `all ${names.length} queues`, rows: names.map(name => [name, [name]]) });
  return { views, unit };
}

// Busy share of queues together in equal slices of the run, from 0 to 1; a queue of transfers is busy with one or more.
function busyShares(spans, members, end) {
  const found = new Float64Array(BINS), wanted = new Set(members), width = end / BINS;
  spans.resource.forEach((name, i) => {
    if (!wanted.has(name)) return;
    const rate = Math.min(1, spans.held_ps[i] / (spans.end_ps[i] - spans.start_ps[i]));
    const last = Math.min(BINS - 1, Math.ceil(spans.end_ps[i] / width) - 1);
    for (let bin = Math.floor(spans.start_ps[i] / width); bin <= last; bin++) {
      const overlap = Math.min(spans.end_ps[i], (bin + 1) * width) - Math.max(spans.start_ps[i], bin * width);
      found[bin] += Math.max(0, overlap) * rate / (width * members.length);
    }
  });
  return [...found];
}

function drawTimeline(data) {
  const spans = data.tables.timeline, box = document.getElementById("timeline");
  const { views, unit } = queues(spans), end = spans.end_ps.reduce((most, value) => Math.max(most, value), 1);
  let row = {}, marked = 0, chosen;
  const show = view => {
    const labels = view.rows.map(([label]) => label), alone = view.rows.filter(([, members]) => members.length === 1);
    row = Object.fromEntries(view.rows.flatMap(([, members], at) => members.map(name => [name, at])));
    const on = new Set(alone.map(([name]) => name)), count = spans.resource.reduce((n, name) => n + on.has(name), 0);
    const type = count > 6000 ? "scattergl" : "scatter";
    const traces = QUEUES.filter(kind => alone.some(([name]) => unit(name) === kind)).map(kind => {
      const x = [], y = [], text = [];
      spans.unit.forEach((one, i) => {
        if (one !== kind || !on.has(spans.resource[i])) return;
        x.push(spans.start_ps[i] / 1e12, spans.end_ps[i] / 1e12, null);
        y.push(row[spans.resource[i]], row[spans.resource[i]], null);
        const busy = spans.busy_ps[i] / (spans.end_ps[i] - spans.start_ps[i]);
        const label = `${spans.op[i]}<br>${spans.resource[i]}, ${digits(100 * busy)} % of ${format("x_s", (spans.end_ps[i] - spans.start_ps[i]) / 1e12)}`;
        text.push(label, label, "");
      });
      return { type, mode: "lines", name: kind, x, y, text, hovertemplate: "%{text}<extra></extra>", line: { color: data.colours.units[kind], width: 9 } };
    });
    const edges = Array.from({ length: BINS }, (_, bin) => bin * end / BINS / 1e12);
    view.rows.forEach(([label, members], at) => {
      if (members.length === 1) return;
      const shares = busyShares(spans, members, end), color = data.colours.units[unit(members[0])];
      const mean = shares.reduce((sum, share) => sum + share, 0) / BINS;
      const base = { type: "scatter", mode: "lines", x: edges, hoverinfo: "skip", showlegend: false, y: edges.map(() => at + 0.45), line: { width: 0 } };
      traces.push(base, { type: "scatter", mode: "lines", x: edges, y: shares.map(share => at + 0.45 - 0.9 * share), fill: "tonexty", fillcolor: color, name: label,
        line: { shape: "hv", width: 0.5, color }, customdata: shares, hovertemplate: `${label}: %{customdata:.1%} busy<extra>mean ${digits(100 * mean)} %</extra>` });
    });
    marked = traces.length;
    traces.push({ type, mode: "lines", name: "chosen operator", x: [], y: [], line: { color: "black", width: 3 }, hoverinfo: "skip" });
    const tall = alone.length < view.rows.length ? 46 : 15, height = Math.max(330, 174 + tall * labels.length);
    Plotly.react(box, traces, layout("Timeline: who had which queue (drag to zoom, double click to go back)", {
      height, xaxis: axis("time_s"), dragmode: "zoom",
      yaxis: { tickvals: labels.map((_, i) => i), ticktext: labels, range: [labels.length - 0.4, -0.6], automargin: true, tickfont: { size: 10 }, fixedrange: true, showgrid: false, zeroline: false },
      legend: BELOW, margin: { l: 60, r: 16, t: 40, b: 130 } }), CONFIG);
    if (chosen !== undefined) mark(chosen);
  };
  const mark = op => {
    const x = [], y = [];
    chosen = op;
    spans.op.forEach((name, i) => {
      if (name !== op || row[spans.resource[i]] === undefined) return;
      x.push(spans.start_ps[i] / 1e12, spans.end_ps[i] / 1e12, null);
      y.push(row[spans.resource[i]], row[spans.resource[i]], null);
    });
    Plotly.restyle(box, { x: [x], y: [y] }, [marked]);
  };
  if (views.length > 1) {
    const select = document.getElementById("cores");
    select.replaceChildren(...views.map(({ label }, at) => element("option", { value: at, textContent: label })));
    select.addEventListener("change", () => show(views[Number(select.value)]));
    document.getElementById("together").textContent = "A strip of several queues is as high as the share of them that is busy.";
    document.getElementById("rows").hidden = false;
  }
  show(views[0]);
  return mark;
}

function drawActivity(data) {
  const activity = data.tables.activity, x = activity.start_s;
  const columns = end => Object.keys(activity).filter(name => name.endsWith(end) && activity[name].some(value => value > 0));
  // A strip for every kind of unit and link, one below the other.
  const strips = columns("_utilization"), height = 1 / strips.length, axes = {};
  const traces = strips.map((name, i) => {
    const kind = name.split("_")[0], number = i ? i + 1 : "";
    axes[`yaxis${number}`] = { domain: [1 - (i + 0.85) * height, 1 - i * height], range: [0, 1], tickvals: [0, 1], tickformat: ".0%", tickfont: { size: 9 },
      title: { text: UNITS[kind] || kind, font: { size: 11 } }, fixedrange: true, gridcolor: "#eee", zeroline: false, automargin: true };
    return { type: "scatter", mode: "lines", fill: "tozeroy", x, y: activity[name], yaxis: `y${number}`, name: UNITS[kind] || kind,
      line: { shape: "hv", width: 0.5, color: data.colours.units[kind] }, hovertemplate: "%{y:.1%}" };
  });
  Plotly.newPlot("utilisation", traces, layout("Utilisation over time, mean of each kind", { height: 80 + 70 * strips.length, showlegend: false,
    xaxis: axis("time_s", { anchor: `y${strips.length > 1 ? strips.length : ""}` }), margin: { l: 110, r: 16, t: 40, b: 46 }, ...axes }), CONFIG);
  const bandwidth = name => ({ type: "scatter", mode: "lines", x, y: activity[name], name: words(name),
    line: { shape: "hv", width: 1.2, color: data.colours.units[name.split("_")[0]], dash: name.includes("write") ? "dot" : "solid" } });
  Plotly.newPlot("bandwidth", columns("_bytes_per_s").map(bandwidth), layout("Bandwidth over time",
    { height: 400, xaxis: axis("time_s"), yaxis: axis("bytes_per_s"), legend: BELOW, margin: { l: 60, r: 16, t: 40, b: 110 } }), CONFIG);
}

function drawPower(data) {
  const { start_s: x, groups, average_w: average, limit_w: limit } = data.power;
  const traces = groups.map(([name, key, watts]) => ({ type: "scatter", mode: "lines", stackgroup: "one", x, y: watts, name,
    line: { shape: "hv", width: 0 }, fillcolor: data.colours.components[key], hovertemplate: "%{y:.3s}W" }));
  const level = (y, name, color, dash) => ({ type: "scatter", mode: "lines", x: [x[0], x[x.length - 1]], y: [y, y], name, line: { color, width: 1.5, dash } });
  traces.push(level(average, `average, ${format("x_w", average)}`, "black", "dash"));
  if (limit) traces.push(level(limit, `limit, ${format("x_w", limit)}`, "#D55E00", "solid"));
  Plotly.newPlot("power", traces, layout("Power over time", { height: 460, xaxis: axis("time_s"), yaxis: axis("power_w", { rangemode: "tozero" }),
    legend: { ...BELOW, traceorder: "normal" }, margin: { l: 60, r: 16, t: 40, b: 160 } }), CONFIG);
}

// Ticks at round numbers of KiB, MiB, GiB, as the bars have them.
function byteTicks(levels) {
  const most = Math.max(1, ...levels.flatMap(([, read, written]) => [read, written])), unit = Math.pow(1024, Math.floor(Math.log(most * (1 + 1e-9)) / Math.log(1024)));
  const rough = most / unit / 4, power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = unit * power * [1, 2, 5, 10].find(times => times * power >= rough);
  const tickvals = Array.from({ length: Math.floor(1.05 * most / step) + 1 }, (_, at) => at * step);
  return { tickvals, ticktext: tickvals.map(value => format("x_bytes", value)), ticksuffix: "" };
}

function drawTraffic(data) {
  const ops = data.tables.ops, sum = name => (ops[name] || []).reduce((total, value) => total + (value || 0), 0);
  const levels = data.levels.map(([name, read, write]) => [name, read.reduce((t, n) => t + sum(n), 0), write.reduce((t, n) => t + sum(n), 0)]).filter(([, r, w]) => r || w).reverse();
  const bar = (at, name, color) => ({ type: "bar", orientation: "h", y: levels.map(level => level[0]), x: levels.map(level => level[at]), name, marker: { color },
    text: levels.map(level => level[at] ? format("x_bytes", level[at]) : ""), textposition: "auto", hovertemplate: "%{y}: %{text}<extra></extra>" });
  Plotly.newPlot("traffic", [bar(2, "written", "#E69F00"), bar(1, "read, or moved", "#0072B2")],
    layout("Memory traffic by level", { barmode: "group", height: 330, xaxis: axis("x_bytes", { title: { text: "traffic of the whole run" }, ...byteTicks(levels) }), yaxis: { automargin: true }, legend: { traceorder: "reversed" } }), CONFIG);
}

let choose;

async function draw(data) {
  cards("cards", data.cards);
  document.getElementById("warnings").replaceChildren(...data.warnings.map(text => element("p", { className: "warning", textContent: text })));
  if (data.time.length) Plotly.newPlot("time", ...stacked("Time on the critical path", data.time, data.colours.causes, "time_s"), CONFIG);
  Plotly.newPlot("energy", ...stacked("Energy", data.energy, data.colours.components, "energy_j"), CONFIG);
  const find = drawRoofline(data);
  drawTraffic(data);
  const events = Boolean(data.tables.timeline.op);
  document.querySelectorAll(".events").forEach(part => { part.hidden = !events; });
  const mark = events ? drawTimeline(data) : () => {};
  if (events) drawActivity(data);
  drawPower(data);
  const ops = new SortedTable("ops", data.tables.ops, data.columns.ops, { onRow: row => choose(row), most: 2000 });
  new SortedTable("resources", data.tables.resources, data.columns.resources);
  choose = row => {
    ops.choose(row);
    mark(data.tables.ops.name[row]);
    find(row);
  };
  document.getElementById("filter").addEventListener("input", event => {
    const wanted = event.target.value.toLowerCase(), { name, kind } = data.tables.ops;
    ops.show(ops.all.filter(row => name[row].toLowerCase().includes(wanted) || kind[row].toLowerCase().includes(wanted)));
  });
  document.getElementById("manifest").textContent = JSON.stringify(data.manifest, null, 2);
}

start();

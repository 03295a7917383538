"use strict";
// The page of a study: Pareto front, parallel coordinates and table, linked. A point is shown as selected where it
// is inside every range brushed in the parallel coordinates and inside the box or lasso drawn in the front.
const LINES = 2500;  // Of more designs the front and an even choice of the others are drawn; all are selected.
const GREY = "#BBBBBB", FRONT = "#D55E00", FEASIBLE = "#0072B2";

async function draw(data) {
  const { columns, objectives, constraints, parameters, metrics } = data;
  const count = columns.status.length, all = [...Array(count).keys()];
  const done = all.filter(row => columns.status[row] === "ok");
  cards("cards", data.cards);
  document.getElementById("warnings").replaceChildren(...data.warnings.map(text => element("p", { className: "warning", textContent: text })));

  const state = { ranges: {}, inside: null };
  const numeric = [...metrics, ...parameters].filter(name => columns[name].some(value => typeof value === "number"));
  const selects = Object.fromEntries(["x", "y"].map(id => [id, document.getElementById(id)]));
  Object.entries(selects).forEach(([id, select], at) => {
    select.append(...numeric.map(name => element("option", { value: name, textContent: axisTitle(name) })));
    select.value = (objectives[at] || objectives[0]).metric;
    select.addEventListener("change", () => { state.inside = null; drawFront(); update(); });
  });

  const colour = row => columns.on_front[row] ? FRONT : columns.feasible[row] ? FEASIBLE : GREY;
  const front = document.getElementById("front");
  const describe = row => parameters.map(name => `${name}: ${format(name, columns[name][row])}`).join("<br>");

  const opacityOf = row => columns.on_front[row] ? 1 : 0.55;

  function drawFront() {
    const [x, y] = [selects.x.value, selects.y.value];
    const points = { type: "scattergl", mode: "markers", name: "designs", x: done.map(row => columns[x][row]), y: done.map(row => columns[y][row]), customdata: done,
      text: done.map(describe), hovertemplate: `%{text}<br>${words(x)}: %{x:.4s}, ${words(y)}: %{y:.4s}<extra></extra>`,
      marker: { size: done.map(row => columns.on_front[row] ? 9 : 5), color: done.map(colour), opacity: done.map(opacityOf) } };
    const best = done.filter(row => columns.on_front[row]).sort((a, b) => columns[x][a] - columns[x][b]);
    // A front of more objectives than these two is no line in them.
    const rises = best.map((row, at) => at ? Math.sign(columns[y][row] - columns[y][best[at - 1]]) : 0);
    const lined = !(rises.includes(1) && rises.includes(-1)) ? best : [];
    const line = { type: "scatter", mode: "lines", name: "front", x: lined.map(row => columns[x][row]), y: lined.map(row => columns[y][row]), hoverinfo: "skip",
      line: { color: FRONT, width: 1, dash: "dot" } };
    const shapes = constraints.flatMap(one => [["x", x], ["y", y]].filter(([, name]) => name === one.metric).map(([letter]) => {
      const other = letter === "x" ? "y" : "x", at = one.limit;
      return { type: "line", [letter + "0"]: at, [letter + "1"]: at, [other + "0"]: 0, [other + "1"]: 1, [other + "ref"]: "paper", line: { color: "#333", width: 1, dash: "dash" },
        label: { text: one.text, font: { size: 10 } } };
    }));
    Plotly.react(front, [points, line], layout("Designs: front orange, feasible blue, others grey (drag to select)", { height: 460, dragmode: "select", shapes,
      xaxis: axis(x), yaxis: axis(y), showlegend: false, uirevision: x + y }), CONFIG);
  }

  function dimension(name) {
    const values = done.map(row => columns[name][row]);
    if (values.every(value => typeof value === "number" || value === null)) {
      const known = values.filter(value => value !== null);
      const span = [Math.min(...known), Math.max(...known)];
      const few = [...new Set(known)].sort((a, b) => a - b), shown = few.length <= 8;
      const made = { label: axisTitle(name), range: span[0] === span[1] ? [span[0] - 1, span[0] + 1] : span, values: values.map(value => value === null ? span[0] : value) };
      if (shown) Object.assign(made, { tickvals: few, ticktext: few.map(value => format(name, value)) });
      else made.tickformat = ".3s";
      return made;
    }
    const names = [...new Set(values.map(String))].sort();
    return { label: name, values: values.map(value => names.indexOf(String(value))), tickvals: names.map((_, at) => at), ticktext: names, range: [-0.2, names.length - 0.8] };
  }

  const axes = [...parameters, ...data.outcomes];
  const dimensions = axes.map(dimension);
  const parallel = document.getElementById("parallel");
  const levels = row => columns.on_front[row] ? 2 : columns.feasible[row] ? 1 : 0;
  const every = Math.ceil(done.length / LINES);
  const drawn = done.map((_, at) => at).filter(at => columns.on_front[done[at]] || at % every === 0);
  const order = drawn.sort((a, b) => levels(done[a]) - levels(done[b]));  // the front is drawn last
  const linesOf = inside => order.map(at => inside && !inside.has(done[at]) ? -0.2 : levels(done[at]) / 2);
  // Values of all designs as the axes show them: words are numbered.
  const byRow = Object.fromEntries(axes.map((name, at) => [name, new Map(done.map((row, place) => [row, dimensions[at].values[place]]))]));
  dimensions.forEach(one => { one.values = order.map(at => one.values[at]); });
  if (every > 1) document.getElementById("drawn").textContent = `${order.length.toLocaleString("en-US")} of ${done.length.toLocaleString("en-US")} lines are drawn.`;
  const faded = [[0, "#f2f2f2"], [0.09, "#f2f2f2"], [0.1, GREY], [0.44, GREY], [0.45, "#7fb8d8"], [0.72, "#7fb8d8"], [0.73, FRONT], [1, FRONT]];
  // Anew, as a brushed axis keeps its brush through a restyle.
  async function drawParallel() {
    await Plotly.newPlot(parallel, [{ type: "parcoords", dimensions, labelfont: { size: 11 }, tickfont: { size: 10 }, labelangle: -12, labelside: "top",
      line: { color: linesOf(state.inside), colorscale: faded, cmin: -0.2, cmax: 1 }, unselected: { line: { color: "#eeeeee", opacity: 0.1 } } }],
      layout("", { height: 420, margin: { l: 70, r: 70, t: 90, b: 24 } }), CONFIG);
    parallel.on("plotly_restyle", brushed);
  }

  const table = new SortedTable("points", columns, data.shown, { most: 200 });

  function selected() {
    return done.filter((row, at) => (!state.inside || state.inside.has(row)) && Object.entries(state.ranges).every(([name, ranges]) => {
      const value = byRow[name].get(row);
      return ranges.some(([low, high]) => value >= low && value <= high);
    }));
  }
  function update() {
    const rows = selected(), any = state.inside || Object.keys(state.ranges).length;
    // By opacity: plotly's own selected points are those of the box alone, and it restores them at every drawing.
    const shown = new Set(rows);
    Plotly.restyle(front, { "marker.opacity": [done.map(row => shown.has(row) ? opacityOf(row) : 0.05)] }, [0]);
    table.show(any ? rows : all);
    select(rows);
  }
  function select(rows) {
    document.getElementById("selected").textContent = `${rows.length.toLocaleString("en-US")} of ${count.toLocaleString("en-US")} points selected`;
    window.lepton.selected = rows;
  }

  drawFront();
  front.on("plotly_selected", event => {
    if (!event || !event.points) return;
    const none = !(front.layout.selections || []).length;  // as when they have been taken away
    state.inside = none ? null : new Set(event.points.filter(point => point.curveNumber === 0).map(point => point.customdata));
    recolour();
    update();
  });
  front.on("plotly_deselect", () => { state.inside = null; recolour(); update(); });
  const recolour = () => parallel.data && Plotly.restyle(parallel, { "line.color": [linesOf(state.inside)] });
  const brushed = ([changes]) => {
    if (!Object.keys(changes).some(key => key.includes("constraintrange"))) return;
    state.ranges = {};
    parallel.data[0].dimensions.forEach((one, at) => {
      if (one.constraintrange) state.ranges[axes[at]] = Array.isArray(one.constraintrange[0]) ? one.constraintrange : [one.constraintrange];
    });
    update();
  };
  document.getElementById("reset").addEventListener("click", async () => {
    dimensions.forEach(one => { delete one.constraintrange; });
    state.ranges = {}; state.inside = null;
    if (parallel.data) await drawParallel();
    await Plotly.update(front, { selectedpoints: [null] }, { selections: [] }, [0]);
    update();
  });
  select(done);
  whenSeen(parallel, drawParallel);
  document.getElementById("manifest").textContent = JSON.stringify(data.manifest, null, 2);
}

start();

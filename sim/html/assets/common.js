"use strict";
// Units, tables and figures of all pages. Values stay in base units; only what is shown is scaled.
const SUFFIXES = [
  ["_bytes_per_s", "B/s", 1000], ["_j_per_byte", "J/B", 1000], ["_hz", "Hz", 1000], ["_mm", "mm", 0], ["_macs_per_s", "MAC/s", 1000], ["_per_s", "/s", 0], ["_bytes", "B", 1024],
  ["_mm2", "mm²", 0], ["_usd", "USD", 0], ["tops_per_w", "TOP/s/W", 0], ["_ps", "ps", 0],
  ["_s", "s", 1000], ["_j", "J", 1000], ["_w", "W", 1000],
];
const NAMES = { bytes_per_s: "bandwidth", tops_per_w: "efficiency" };
const ACRONYMS = { dram: "DRAM", sram: "SRAM", noc: "network", macs: "MACs", dma: "DMA" };
const SHARES = /(utilization|hit_rate|share)$/;
// One GL pixel per screen pixel: the default of four takes software renderers seconds.
const CONFIG = { responsive: true, displaylogo: false, plotGlPixelRatio: 1 };
const FONT = { family: "system-ui, DejaVu Sans, sans-serif", size: 12, color: "#222" };

function suffixOf(name) { return SUFFIXES.find(([end]) => `_${name}`.endsWith(end)); }

// "latency_s" is "latency"; a path such as core.array.rows stays as it is.
function words(name) {
  if (NAMES[name]) return NAMES[name];
  const found = suffixOf(name);
  const stem = found && found[0].startsWith("_") ? name.slice(0, -found[0].length) || name : name;
  return stem.includes(".") ? stem : stem.split("_").map(word => ACRONYMS[word] || word).join(" ");
}

function digits(value) {
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-3 && size < 1e5)) return Number(value.toPrecision(4)).toLocaleString("en-US");
  return value.toExponential(3);
}

// 0.0021 of "latency_s" as "2.1 ms".
function format(name, value) {
  if (value === null || value === undefined || value === "") return "";
  if (typeof value !== "number") return String(value);
  if (SHARES.test(name)) return digits(100 * value) + " %";
  const found = suffixOf(name);
  if (!found) return Number.isInteger(value) ? value.toLocaleString("en-US") : digits(value);
  const [, unit, step] = found;
  if (!step || value === 0) return digits(value) + " " + unit;
  const prefixes = step === 1024 ? ["", "Ki", "Mi", "Gi", "Ti"] : ["f", "p", "n", "u", "m", "", "k", "M", "G", "T", "P"];
  const zero = prefixes.indexOf("");
  const power = Math.floor(Math.log(Math.abs(value) * (1 + 1e-9)) / Math.log(step)) + zero;
  const at = Math.min(Math.max(power, 0), prefixes.length - 1);
  return digits(value / Math.pow(step, at - zero)) + " " + prefixes[at] + unit;
}

// A name with its base unit, where values stand without one.
function axisTitle(name) {
  if (SHARES.test(name)) return words(name);
  const found = suffixOf(name);
  return found ? `${words(name)} (${found[1]})` : words(name);
}

// Ticks carry the unit with its prefix ("1.5ms"); areas, costs and rates, which take none, have it in the title.

function axis(name, more) {
  const [, unit, step] = suffixOf(name) || [];
  return Object.assign({ title: { text: step ? words(name) : axisTitle(name) }, exponentformat: "SI", automargin: true, ticksuffix: step ? unit : "",
    tickformat: SHARES.test(name) ? ".0%" : step ? "~s" : undefined, gridcolor: "#eee", zeroline: false }, more);
}

function layout(title, more) {
  return Object.assign({ title: { text: title, font: { size: 14 }, x: 0, xref: "paper", xanchor: "left" }, font: FONT, paper_bgcolor: "white", plot_bgcolor: "white",
    margin: { l: 60, r: 16, t: 40, b: 46 }, hovermode: "closest", legend: { font: { size: 11 } } }, more);
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function cards(id, items) {
  document.getElementById(id).replaceChildren(...items.map(([label, text, name]) => {
    const card = element("div", { className: "card" }, element("span", { textContent: label }), element("b", { textContent: text }));
    if (name) card.dataset.metric = name;
    return card;
  }));
}

// A table that sorts where its head is clicked. `rows` are row numbers into `columns`; at most `most` are shown.
class SortedTable {
  constructor(id, columns, shown, { most = 500, onRow = null } = {}) {
    Object.assign(this, { box: document.getElementById(id), columns, shown, most, onRow });
    this.all = [...Array(columns[shown[0]].length).keys()];
    this.rows = this.all; this.by = null; this.descending = true; this.chosen = null;
    this.numeric = Object.fromEntries(shown.map(name => [name, columns[name].some(value => typeof value === "number")]));
    this.render();
  }
  sort(name) {
    this.descending = this.by === name ? !this.descending : this.numeric[name];
    this.by = name;
    this.render();
  }
  show(rows) { this.rows = rows; this.render(); }
  choose(row) { this.chosen = row; this.render(); }
  ordered() {
    if (this.by === null) return this.rows;
    const values = this.columns[this.by], sign = this.descending ? -1 : 1, empty = value => value === null || value === "";
    return [...this.rows].sort((a, b) => {
      const x = values[a], y = values[b];
      if (empty(x) || empty(y)) return empty(x) - empty(y) || a - b;
      return (x < y ? -sign : x > y ? sign : 0) || a - b;
    });
  }
  render() {
    const head = element("tr", {}, ...this.shown.map(name => {
      const cell = element("th", { textContent: words(name), title: name, className: this.numeric[name] ? "number" : "" });
      cell.dataset.column = name;
      if (name === this.by) cell.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      cell.addEventListener("click", () => this.sort(name));
      return cell;
    }));
    const body = this.ordered().slice(0, this.most).map(row => {
      const line = element("tr", { className: row === this.chosen ? "chosen" : "" }, ...this.shown.map(name => {
        const value = this.columns[name][row];
        const cell = element("td", { textContent: format(name, value), className: this.numeric[name] ? "number" : "words" });
        if (!this.numeric[name]) cell.title = value === null ? "" : value;
        cell.dataset.column = name;
      cell.dataset.value = value === null ? "" : value;
        return cell;
      }));
      line.dataset.row = row;
      if (this.onRow) line.addEventListener("click", () => this.onRow(row));
      return line;
    });
    this.box.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
  }
}

async function unpacked(id) {
  const text = atob(document.getElementById(id).textContent.trim()), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// Calls `make` when a third of the element comes into view, once; the page can be used before.
function whenSeen(box, make) {
  const watch = new IntersectionObserver(seen => {
    if (!seen.some(one => one.isIntersecting)) return;
    watch.disconnect();
    setTimeout(async () => { await make(); box.dataset.drawn = "yes"; });
  }, { threshold: 0.3 });
  watch.observe(box);
}

async function start() {
  try {
    const [code, data] = await Promise.all([unpacked("plotly"), unpacked("data")]);
    document.head.append(element("script", { textContent: code }));
    window.lepton = { data: JSON.parse(data) };
    await draw(window.lepton.data);
    document.body.dataset.readyMs = performance.now();
  } catch (error) {
    const problem = document.getElementById("problem");
    problem.hidden = false;
    problem.textContent = `This page could not be drawn; it needs a browser of 2023 or later. ${error}`;
    throw error;
  }
}

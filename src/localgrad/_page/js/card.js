"use strict";
// What is known of a vertex, a group or a parameter, beside it. All texts are data.

class Card {
  constructor(place, stages) {
    this.place = place;
    this.stages = stages;
    this.about = null;
    this.isPinned = false;
  }

  // About a node of a side.
  show(side, id) {
    this.about = { side, id };
    this.write();
  }

  pin(isPinned) {
    this.isPinned = isPinned;
    this.place.classList.toggle("pinned", isPinned);
    if (!isPinned) this.hide();
  }

  hide() {
    this.about = null;
    this.place.hidden = true;
  }

  write() {
    if (!this.about) return;
    const stage = this.stages[this.about.side];
    const element = stage.cy.getElementById(this.about.id);
    if (!element.length) return this.pin(false);
    const parts = element.hasClass("leaf")
      ? this.ofLeaf(element)
      : this.ofNode(stage, stage.shown.nodes.get(this.about.id));
    this.place.replaceChildren(...parts.filter(Boolean));
    this.place.hidden = false;
    this.put(element);
  }

  // Below what it is about, or above where there is no room.
  put(element) {
    const { left, top } = this.stages[this.about.side].canvas.getBoundingClientRect();
    const { width, height } = this.place.getBoundingClientRect();
    const { x1, x2, y1, y2 } = element.renderedBoundingBox();
    const isBelow = top + y2 + height + 16 < innerHeight;
    this.place.style.left = `${Math.max(8, Math.min(left + (x1 + x2) / 2 - width / 2, innerWidth - width - 8))}px`;
    this.place.style.top = `${isBelow ? top + y2 + 8 : Math.max(8, top + y1 - height - 8)}px`;
  }

  ofLeaf(element) {
    const reader = this.stages[this.about.side].shown.nodes.get(element.data("of"));
    return [
      text("h4", element.data("leaf")),
      text("div", `a parameter that ${reader.unit.name} reads`, "where"),
    ];
  }

  ofNode(stage, node) {
    const { film } = stage;
    const parts = node.unit ? this.ofUnit(node.unit) : this.ofGroup(film, node);
    const sides = this.stages
      .map((other) => ({ film: other.film, row: other.row, units: unitsLike(film, node, other) }))
      .filter(({ units }) => units.length);
    parts.push(this.numbers(sides));
    parts.push(trace(film, node.units, stage.scale, stage.row));
    return parts;
  }

  ofUnit(unit) {
    const kind = unit.kind === "loss" ? "the loss" : unit.kind;
    const [file, line] = [
      unit.source.slice(0, unit.source.lastIndexOf(":")),
      unit.source.slice(unit.source.lastIndexOf(":")),
    ];
    const source = text("div", file.split(/[\\/]/).slice(-2).join("/") + line, "where source");
    source.title = unit.source;
    return [
      text("h4", unit.name),
      text("div", `${kind}, level ${unit.level}, ${unit.type}`, "where"),
      unit.scope ? text("div", `in ${unit.scope}`, "where") : null,
      unit.source ? source : null,
      unit.code ? text("code", unit.code) : null,
    ];
  }

  ofGroup(film, node) {
    const what = node.group.isStack ? `copies of ${film.units[node.units[0]].type}` : "vertices and relays";
    return [
      text("h4", node.group.label),
      text(
        "div",
        `${node.units.length} ${what}, level${node.low === node.high ? ` ${node.low}` : `s ${node.high} to ${node.low}`}`,
        "where",
      ),
      text("div", "double-click to unfold", "where"),
    ];
  }

  numbers(sides) {
    const table = document.createElement("table");
    if (this.stages.length > 1) {
      const head = table.createTHead().insertRow();
      head.append(text("th", ""), ...sides.map(({ film }) => text("th", film.rule)));
    }
    const body = table.createTBody();
    const line = (name, numbers, className = "") => {
      if (numbers.every((number) => number === null)) return;
      const row = body.insertRow();
      row.append(text("th", name), ...numbers.map((number) => text("td", number ?? "", className)));
      row.dataset.name = name;
    };
    for (const [name, quantity] of [
      ["error", "error"],
      ["value change", "change"],
      ["energy", "energy"],
    ]) {
      line(
        name,
        sides.map(({ film, units, row }) => shortNumber(film.total(quantity, units, row))),
      );
    }
    line(
      "delivered",
      sides.map(({ film, units, row }) =>
        film.delivered && units.length === 1 ? shortNumber(film.at(film.delivered, units[0], row)) : null,
      ),
    );
    line(
      "learns",
      sides.map(({ film, units, row }) => whenLearned(film, units, row)),
    );
    for (const cell of body.querySelectorAll("td"))
      if (cell.textContent.endsWith("now")) cell.className = "learns";
    return table;
  }
}

function text(tag, content, className = "") {
  return Object.assign(document.createElement(tag), { textContent: content, className });
}

// The units of the same name on another side.
function unitsLike(film, node, other) {
  if (other.film === film) return node.units;
  return node.units.map((u) => other.film.byName.get(film.units[u].name)).filter((u) => u !== undefined);
}

function whenLearned(film, units, row) {
  const readers = units.filter((u) => film.hasSynapses(u));
  if (!readers.length) return null;
  const now = readers.filter((u) => film.learns(u, row)).length;
  if (now) return readers.length > 1 ? `${now} of ${readers.length} now` : "now";
  const times = readers.map((u) => film.firstLearned[u]).filter(Number.isFinite);
  if (!times.length) return "never";
  const [first, last] = [Math.min(...times), Math.max(...times)].map((k) => film.times[k]);
  return first === last ? `at ${first}` : `from ${first} to ${last}`;
}

// The number that colours it, over all times, with the time shown.
function trace(film, units, scale, row) {
  const [width, height] = [274, 40];
  const name = "http://www.w3.org/2000/svg";
  const x = (k) => (film.times.length > 1 ? (k / (film.times.length - 1)) * width : 0);
  let path = "";
  film.times.forEach((_, k) => {
    const number = film.total(scale.quantity, units, k);
    if (!Number.isFinite(number)) return;
    const y = number === 0 ? height : (height - 4) * (1 - scale.place(number));
    path += `${path ? "L" : "M"}${x(k).toFixed(1)} ${y.toFixed(1)}`;
  });
  const make = (tag, attributes) => {
    const element = document.createElementNS(name, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const picture = make("svg", {
    class: "trace",
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  picture.append(
    make("path", { d: `M0 ${height}H${width}`, stroke: colour("line") }),
    make("path", { d: `M${x(row)} 0V${height}`, stroke: colour("found") }),
    make("path", { d: path }),
  );
  return picture;
}

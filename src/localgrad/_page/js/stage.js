"use strict";
// One side: a graph that is drawn once, and painted again at every time.

const FAR = 0.32; // a zoom where nodes would be too small to tell colours
const LETTER = 6.4; // about the width of one
const MARGIN = 14; // around the graph, in pixels

class Stage {
  constructor(film, place, folding) {
    this.film = film;
    this.folding = folding;
    this.row = 0;
    this.place = place;
    this.place.className = "side";
    this.head = document.createElement("h2");
    this.canvas = Object.assign(document.createElement("div"), { className: "canvas" });
    this.levels = Object.assign(document.createElement("div"), { className: "levels" });
    this.place.append(this.head, this.canvas, this.levels);
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute(
      "aria-label",
      `Graph of ${film.units.length} vertices under ${film.rule}; search for a vertex to hear its numbers`,
    );
    this.cy = cytoscape({
      container: this.canvas,
      style: looks(),
      minZoom: 0.02,
      maxZoom: 4,
      autoungrabify: true,
      autounselectify: true,
      boxSelectionEnabled: false,
      hideEdgesOnViewport: false,
    });
    this.painter = new Painter(this.cy, this.canvas);
    this.painter.readTheme();
    this.cy.on("viewport resize", () => this.moved());
  }

  // Draw what is shown of the folded graph: all of it, or if one was looking at a part, that part.
  draw() {
    const view = this.view();
    this.shown = this.folding.shown(this.film.side);
    this.columns = arrange(
      this.shown,
      this.film,
      this.folding.leaves,
      (this.canvas.clientHeight - 60) / this.canvas.clientWidth,
    );
    for (const node of this.shown.nodes.values()) {
      node.readers = node.units.filter((u) => this.film.hasSynapses(u));
      node.leafPlaces = node.leaves.map((_, k) => leafPlace(node, k));
    }
    this.isFar = null;
    this.cy.batch(() => {
      this.cy.elements().remove();
      this.cy.add([...this.boxes(), ...this.nodes(), ...this.edges()]);
    });
    this.painter.nodes = [...this.shown.nodes.values()];
    this.painter.edges = this.shown.edges.filter((edge) => edge.readers.length);
    for (const edge of this.painter.edges) edge.element = this.cy.getElementById(edge.id);
    if (view) this.keep(view);
    else this.fit();
  }

  // Where one is looking, if that is not all: the node in the middle, and its place on the screen.
  view() {
    if (!this.shown || this.isFitted()) return null;
    const zoom = this.cy.zoom();
    const pan = this.cy.pan();
    const [x, y] = [(this.cy.width() / 2 - pan.x) / zoom, (this.cy.height() / 2 - pan.y) / zoom];
    const far = (node) => Math.hypot(node.x - x, node.y - y);
    const node = [...this.shown.nodes.values()].reduce((a, b) => (far(b) < far(a) ? b : a));
    return { zoom, units: node.units, x: node.x * zoom + pan.x, y: node.y * zoom + pan.y };
  }

  keep({ zoom, units, x, y }) {
    const nodes = [...this.shown.nodes.values()];
    const node = nodes.find((node) => node.units.some((u) => units.includes(u))) ?? nodes[0];
    this.cy.viewport({ zoom, pan: { x: x - node.x * zoom, y: y - node.y * zoom } });
    this.moved();
  }

  isFitted() {
    const { zoom, pan } = this.fitted;
    const now = this.cy.pan();
    return zoom === this.cy.zoom() && pan.x === now.x && pan.y === now.y;
  }

  boxes() {
    return [...this.shown.boxes.values()].map(({ id, group, x, y, width, height }) => {
      const label = `▾ ${group.label}`;
      const shift = Math.min(LETTER * label.length - width, 0) / 2 + 4; // to the left end
      return {
        group: "nodes",
        classes: "box",
        position: { x, y },
        data: { id, width, height, label, shift, isBox: true },
      };
    });
  }

  nodes() {
    const found = [];
    for (const {
      id,
      x,
      y,
      width,
      height,
      label,
      textWidth,
      kind,
      group,
      leaves,
      leafPlaces,
    } of this.shown.nodes.values()) {
      const classes = `${kind} ${group?.isStack ? "stack" : ""}`;
      const far = { farWidth: Math.min(2 * width, textWidth), farHeight: Math.min(2 * height, 60) };
      // A name may be broken behind these.
      const named = label && { label: label.replace(/([_./:\]])(?=.)/g, "$1\u200b"), textWidth };
      found.push({
        group: "nodes",
        classes,
        position: { x, y },
        data: { id, width, height, ...far, ...named },
      });
      leaves.forEach((leaf, k) => {
        found.push({
          group: "nodes",
          classes: "leaf",
          position: leafPlaces[k],
          data: { id: `${id}.${k}`, leaf, of: id },
        });
      });
    }
    return found;
  }

  edges() {
    const found = this.shown.edges.map(({ id, source, target, bends, isDirect }) => {
      const route = routeOf(this.shown.nodes.get(source), this.shown.nodes.get(target), bends);
      const classes = `${route.weights ? "bent" : ""} ${isDirect ? "" : "joined"}`;
      return { group: "edges", classes, data: { id, source, target, ...route } };
    });
    return found;
  }

  // Show a row of the film.
  paint(row, scale) {
    const { film } = this;
    Object.assign(this, { row, scale });
    for (const node of this.painter.nodes) {
      node.fills = node.strips.map((units) => scale.colour(film.total(scale.quantity, units, row)));
      node.isBroken = node.fills.includes(scale.broken);
      node.learns = node.readers.some((u) => film.learns(u, row));
      node.hasLearned = node.readers.every((u) => film.firstLearned[u] < row);
    }
    for (const edge of this.painter.edges) edge.learns = edge.readers.some((u) => film.learns(u, row));
    this.painter.draw();
    this.drawHead();
  }

  drawHead() {
    const { film, row } = this;
    const fact = (name, text) => {
      const span = Object.assign(document.createElement("span"), {
        className: "fact",
        textContent: `${name} `,
      });
      span.append(Object.assign(document.createElement("b"), { textContent: text }));
      return span;
    };
    const rule = Object.assign(document.createElement("span"), { className: "rule", textContent: film.rule });
    rule.style.setProperty("--colour", colour(`side-${film.side}`));
    const last = film.times[film.times.length - 1];
    this.head.replaceChildren(
      rule,
      fact("step", `${film.times[row]} of ${last}`),
      fact("free energy", shortNumber(film.energy[row], 4)),
      fact("learning", `${film.units.filter((_, u) => film.learns(u, row)).length}`),
    );
  }

  // After every change of what part is in view.
  moved() {
    if (!this.columns) return;
    const isFar = this.cy.zoom() < FAR;
    if (isFar !== this.isFar) {
      this.isFar = isFar;
      this.cy.batch(() => this.cy.nodes("[^isBox]").toggleClass("far", isFar));
      for (const node of this.shown.nodes.values()) {
        const element = this.cy.getElementById(node.id);
        node.drawn = { width: element.width(), height: element.height() };
      }
    }
    this.drawLevels();
  }

  // The levels under their columns, as many as there is room for.
  drawLevels() {
    const [zoom, pan, width] = [this.cy.zoom(), this.cy.pan(), this.canvas.clientWidth];
    const title = Object.assign(document.createElement("em"), { textContent: "level" });
    const marks = [title];
    let free = 64;
    for (const column of this.columns) {
      const x = column.x * zoom + pan.x;
      const room = 4 * column.label.length + 5;
      if (x - room < free || x + room > width) continue;
      const mark = Object.assign(document.createElement("span"), { textContent: column.label });
      mark.style.left = `${x}px`;
      marks.push(mark);
      free = x + room;
    }
    this.levels.replaceChildren(...marks);
  }

  // All of it, as large as there is room for.
  fit() {
    this.cy.resize();
    const nodes = [...this.shown.nodes.values()];
    const boxes = [...this.shown.boxes.values()];
    const left = Math.min(...nodes.map((node) => node.x - node.textWidth / 2));
    const right = Math.max(...nodes.map((node) => node.x + node.textWidth / 2));
    const top = Math.min(
      ...nodes.map((node) => node.y - node.half),
      ...boxes.map((box) => box.y - box.height / 2 - TITLE),
    );
    const bottom = Math.max(
      ...nodes.map((node) => node.y + node.half),
      ...boxes.map((box) => box.y + box.height / 2),
    );
    const [width, height] = [this.cy.width(), this.cy.height()];
    const zoom = Math.min((width - 2 * MARGIN) / (right - left), (height - 2 * MARGIN) / (bottom - top), 1.6);
    const pan = { x: (width - zoom * (left + right)) / 2, y: (height - zoom * (top + bottom)) / 2 };
    this.fitted = { zoom, pan };
    this.cy.viewport(this.fitted);
    this.moved();
  }

  centre(id) {
    const element = this.cy.getElementById(id);
    if (!element.length) return;
    const zoom = Math.max(this.cy.zoom(), 0.9);
    const { x, y } = element.position();
    this.cy.viewport({
      zoom,
      pan: { x: this.cy.width() / 2 - zoom * x, y: this.cy.height() / 2 - zoom * y },
    });
  }

  // Mark nodes by name of class; the others of that class lose it.
  mark(name, ids) {
    this.cy.batch(() => {
      this.cy.elements(`.${name}`).removeClass(name);
      for (const id of ids) this.cy.getElementById(id).addClass(name);
    });
  }

  // What is to be seen now, as plain data.
  look() {
    const { left, top } = this.canvas.getBoundingClientRect();
    const nodes = [...this.shown.nodes.values()].map((node) => {
      const { x, y } = this.cy.getElementById(node.id).renderedPosition();
      const { id, kind, label, column, low, high, fills, isBroken, learns, hasLearned, leaves } = node;
      const name = node.unit?.name ?? node.group.label;
      return {
        id,
        name,
        kind,
        label,
        column,
        low,
        high,
        fills,
        isBroken,
        learns,
        hasLearned,
        leaves,
        x: left + x,
        y: top + y,
      };
    });
    const name = (id) => nodes.find((node) => node.id === id).name;
    const edges = this.shown.edges.map((edge) => ({
      from: name(edge.source),
      to: name(edge.target),
      learns: edge.learns ?? false,
      isDirect: edge.isDirect,
    }));
    const boxes = [...this.shown.boxes.values()].map(({ id, group }) => ({ id, name: group.label }));
    return { rule: this.film.rule, step: this.film.times[this.row], nodes, edges, boxes };
  }

  restyle() {
    this.cy.style(looks());
    this.painter.readTheme();
  }
}

// Parameters stand in rows above the vertex that reads them.
function leafPlace(node, k) {
  const columns = Math.min(node.leaves.length, ROW);
  const x = node.x + ((k % ROW) - (columns - 1) / 2) * 13;
  return { x, y: node.y - node.height / 2 - 14 - 12 * Math.floor(k / ROW) };
}

// Bends as Cytoscape wants them: how far along the straight line, and how far off it.
function routeOf(a, b, bends) {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = Math.hypot(dx, dy);
  const points = a.x <= b.x ? bends : [...bends].reverse();
  const along = points.map(({ x, y }) => ((x - a.x) * dx + (y - a.y) * dy) / length ** 2);
  const off = points.map(({ x, y }) => ((y - a.y) * dx - (x - a.x) * dy) / length);
  return off.some((distance) => Math.abs(distance) > 1) ? { weights: along, distances: off } : {};
}

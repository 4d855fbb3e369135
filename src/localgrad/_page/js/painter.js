"use strict";
// What changes over time, upon the graph that Cytoscape draws: fills, rims, learning synapses.

class Painter {
  constructor(cy, place) {
    this.cy = cy;
    this.canvas = place.appendChild(Object.assign(document.createElement("canvas"), { className: "paint" }));
    this.context = this.canvas.getContext("2d");
    this.nodes = [];
    this.edges = [];
    cy.on("render", () => this.draw());
  }

  readTheme() {
    this.inks = Object.fromEntries(
      ["learns", "learned", "unlearned", "rim", "broken", "ground", "edge"].map((name) => [
        name,
        colour(name),
      ]),
    );
  }

  // `nodes` have their place, and at each time fills, isBroken, learns and hasLearned; `edges` have
  // learns.
  draw() {
    const { canvas, context, cy } = this;
    const ratio = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const [zoom, pan] = [cy.zoom(), cy.pan()];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(zoom * ratio, 0, 0, zoom * ratio, pan.x * ratio, pan.y * ratio);
    context.lineJoin = context.lineCap = "round";
    this.zoom = zoom;
    for (const edge of this.edges) if (edge.learns) this.edge(edge);
    for (const node of this.nodes) this.node(node);
  }

  // Lines and dots stay visible where all is small.
  atLeast(pixels, size) {
    return Math.max(size, pixels / this.zoom);
  }

  edge({ element }) {
    const { context, inks } = this;
    const [from, to] = [element.sourceEndpoint(), element.targetEndpoint()];
    const bends = element.segmentPoints();
    const [curve] = element.controlPoints() ?? [];
    context.beginPath();
    context.moveTo(from.x, from.y);
    if (curve) context.quadraticCurveTo(curve.x, curve.y, to.x, to.y);
    else for (const { x, y } of [...(bends ?? []), to]) context.lineTo(x, y);
    context.strokeStyle = inks.learns;
    context.globalAlpha = 0.25;
    context.lineWidth = this.atLeast(7, 12);
    context.stroke();
    context.globalAlpha = 1;
    context.lineWidth = this.atLeast(2, 3.5);
    context.stroke();
    const before = curve ?? bends?.[bends.length - 1] ?? from;
    this.arrow(to, Math.atan2(to.y - before.y, to.x - before.x));
  }

  arrow({ x, y }, angle) {
    const { context, inks } = this;
    const size = this.atLeast(5, 9);
    context.beginPath();
    context.moveTo(x, y);
    for (const turn of [-0.5, 0.5])
      context.lineTo(x - size * Math.cos(angle + turn), y - size * Math.sin(angle + turn));
    context.closePath();
    context.fillStyle = inks.learns;
    context.fill();
  }

  node(node) {
    const { context, inks } = this;
    if (node.learns) {
      outline(context, node, this.atLeast(2.5, 4));
      context.fillStyle = inks.learns;
      context.fill();
    }
    outline(context, node, 0);
    if (node.fills.length === 1) this.fill(node);
    else this.strips(node);
    context.strokeStyle = node.learns ? inks.learns : node.isBroken ? inks.broken : inks.rim;
    context.lineWidth = node.learns ? 2 : node.width > 20 ? 1.5 : 1;
    context.stroke();
    if (node.isBroken) this.cross(node);
    if (node.leaves.length && this.zoom >= FAR) this.leaves(node);
  }

  fill(node) {
    this.context.fillStyle = node.fills[0];
    this.context.fill();
  }

  strips({ x, y, drawn: { width, height }, fills }) {
    const { context } = this;
    context.save();
    context.clip();
    fills.forEach((fill, k) => {
      context.fillStyle = fill;
      // Wider by a hair, that nothing shines through between them.
      context.fillRect(
        x - width / 2 + (k * width) / fills.length,
        y - height / 2,
        width / fills.length + 0.5,
        height,
      );
    });
    context.restore();
  }

  cross({ x, y, drawn: { height } }) {
    const { context, inks } = this;
    const arm = height / 5;
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(x - arm, y - side * arm);
      context.lineTo(x + arm, y + side * arm);
    }
    context.strokeStyle = inks.ground;
    context.lineWidth = 3;
    context.stroke();
  }

  leaves(node) {
    const { context, inks } = this;
    const size = node.learns ? 10.5 : 8;
    for (const { x, y } of node.leafPlaces) {
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(node.x, node.y - node.height / 2);
      context.strokeStyle = node.learns ? inks.learns : inks.edge;
      context.lineWidth = node.learns ? 2.5 : 1;
      context.stroke();
      context.beginPath();
      context.rect(x - size / 2, y - size / 2, size, size);
      context.fillStyle = node.learns ? inks.learns : node.hasLearned ? inks.learned : inks.unlearned;
      context.fill();
      context.strokeStyle = node.learns ? inks.learns : node.hasLearned ? inks.learned : inks.rim;
      context.lineWidth = 1.25;
      context.stroke();
    }
  }
}

// The shape of a node, wider by so much on each side.
function outline(context, { kind, x, y, drawn: { width, height } }, more) {
  const [a, b] = [width / 2 + more, height / 2 + more];
  context.beginPath();
  if (kind === "group") context.roundRect(x - a, y - b, 2 * a, 2 * b, 6 + Math.max(0, more));
  else if (kind === "relays") context.roundRect(x - a, y - b, 2 * a, 2 * b, b);
  else if (kind === "loss")
    polygon(context, [
      [x - a, y],
      [x, y - b],
      [x + a, y],
      [x, y + b],
    ]);
  else context.ellipse(x, y, a, b, 0, 0, 2 * Math.PI);
}

function polygon(context, corners) {
  for (const [x, y] of corners) context.lineTo(x, y);
  context.closePath();
}

"use strict";
// Where nodes stand: the column is the level, the order in it is dagre's, the height is settled.

const SIZES = { vertex: 30, loss: 34, relay: 12 };
const BINS = 14;
const ROW = 5; // parameters beside each other
const LINE = 13; // of a name
const PADDING = 10; // around what is in a box, and 7 more for each box within

// The levels in a folded group, as few strips from the farthest to the nearest.
function strips(film, units) {
  const levels = [...new Set(units.map((u) => film.units[u].level))].sort((a, b) => b - a);
  const count = Math.min(levels.length, BINS);
  const bins = Array.from({ length: count }, () => []);
  const bin = new Map(levels.map((level, k) => [level, Math.floor((k * count) / levels.length)]));
  for (const u of units) bins[bin.get(film.units[u].level)].push(u);
  return bins;
}

// Relays need none: they are many, and have their vertex's.
function nameOf({ kind, unit, group, units }) {
  if (kind === "relay" || kind === "relays") return "";
  return (
    unit?.name ?? (group.isStack ? `▸ ${group.label}×${units.length}` : `▸ ${group.label} (${units.length})`)
  );
}

// Name, parameters, width and height of a node.
function dress(node, film, withLeaves) {
  node.leaves = withLeaves && node.unit && node.kind !== "relay" ? node.unit.leaves : [];
  node.label = nameOf(node);
  node.strips = node.unit ? [node.units] : strips(film, node.units);
  if (node.unit) node.width = node.height = SIZES[node.kind];
  else if (node.kind === "relays") [node.width, node.height] = [Math.max(16, 6 * node.strips.length), 14];
  else [node.width, node.height] = [Math.max(34, 11 * node.strips.length), 34];
}

// Between the rims of neighbouring columns: less where there are many.
function gap(columns) {
  return columns.length <= 10 ? 62 : columns.length <= 20 ? 46 : 34;
}

// Half the height of a node with its name below and its parameters above.
function half(node, width) {
  const rows = Math.ceil(node.leaves.length / ROW);
  const lines = node.label ? Math.ceil((6 * node.label.length) / width) : 0;
  return node.height / 2 + Math.max(lines && 5 + LINE * lines, rows && 10 + 12 * rows);
}

// `ratio` is that of the room's height to its width. Gives nodes x and y, boxes x, y, width and height, edges the points they bend at.
// Returns the columns: nodes whose levels have one middle stand in one.
function arrange({ nodes, boxes, edges }, film, withLeaves, ratio) {
  const middles = [...new Set([...nodes.values()].map((node) => node.low + node.high))].sort((a, b) => b - a);
  const place = new Map(middles.map((middle, k) => [middle, k]));
  const columns = middles.map(() => ({ nodes: [], x: 0, from: 0 }));
  for (const node of nodes.values()) {
    dress(node, film, withLeaves);
    node.column = place.get(node.low + node.high);
    columns[node.column].nodes.push(node);
  }
  let end = 0;
  for (const column of columns) {
    column.width = Math.max(...column.nodes.map((node) => node.width));
    column.x = end + column.width / 2;
    end = column.x + column.width / 2 + gap(columns);
    for (const node of column.nodes) {
      node.textWidth = column.width + gap(columns) - 4;
      node.half = half(node, node.textWidth);
    }
    const [low, high] = [
      Math.min(...column.nodes.map((node) => node.low)),
      Math.max(...column.nodes.map((node) => node.high)),
    ];
    column.label = low === high ? `${low}` : `${high}–${low}`;
  }
  const graph = ordered({ nodes, boxes, edges });
  for (const node of nodes.values()) {
    node.x = columns[node.column].x;
    node.y = graph.node(node.id).y;
    columns[node.column].from = graph.node(node.id).x;
  }
  for (const edge of edges) bend(edge, nodes, columns, graph);
  for (const box of boxes.values()) gather(box, { nodes, boxes, edges });
  settle({ nodes, boxes, edges }, columns);
  stretch({ nodes, boxes, edges }, end * ratio, columns.length > 40 ? 2.4 : 1.4);
  for (const box of boxes.values()) {
    const [left, right] = [columns[box.first], columns[box.last]];
    const [from, to] = [left.x - left.width / 2 - box.padding, right.x + right.width / 2 + box.padding];
    Object.assign(box, {
      x: (from + to) / 2,
      width: to - from,
      y: (box.top + box.bottom) / 2,
      height: box.bottom - box.top,
    });
  }
  return columns;
}

// Higher if there is room for it: flat graphs have steep edges.
function stretch({ nodes, boxes, edges }, room, limit) {
  const items = [...nodes.values(), ...edges.flatMap((edge) => edge.bends)];
  const heights = items.map((item) => item.y);
  const factor = Math.min(Math.max(room / (Math.max(...heights) - Math.min(...heights) + 60), 1), limit);
  for (const item of items) item.y *= factor;
  for (const box of boxes.values()) [box.top, box.bottom] = [factor * box.top, factor * box.bottom];
}

// dagre's order of the nodes in each column, with boxes kept together.
function ordered({ nodes, boxes, edges }) {
  const graph = new dagre.graphlib.Graph({ compound: true, multigraph: true });
  graph.setGraph({ rankdir: "LR", align: "DL", ranker: (inner) => rankByColumn(inner, nodes) });
  for (const box of boxes.values()) graph.setNode(box.id, {});
  for (const node of nodes.values()) graph.setNode(node.id, { width: node.width, height: 2 * node.half });
  for (const item of [...boxes.values(), ...nodes.values()])
    if (item.parent) graph.setParent(item.id, item.parent);
  for (const edge of edges) {
    const [from, to] = ends(edge, nodes);
    if (from.column < to.column) graph.setEdge(from.id, to.id, { labelpos: "c" }, edge.id);
  }
  dagre.layout(graph, { disableOptimalOrderHeuristic: nodes.size > 300 });
  return graph;
}

// The ends of an edge from left to right. Between folded groups it may run against the levels.
function ends(edge, nodes) {
  const [a, b] = [nodes.get(edge.source), nodes.get(edge.target)];
  return a.column <= b.column ? [a, b] : [b, a];
}

// Columns as ranks, two for each since dagre wants a point on every edge, with room for the
// borders of boxes between them.
function rankByColumn(graph, nodes) {
  const { nodeRankFactor = 1, nestingRoot } = graph.graph();
  graph.node(nestingRoot).rank = 0;
  for (const node of nodes.values()) graph.node(node.id).rank = 2 * nodeRankFactor * (node.column + 1);
  // A border stands before all that its box holds, or behind all of it, and within the borders of
  // the box around.
  const reach = (id, isBefore) => {
    for (const edge of isBefore ? graph.inEdges(id) : graph.outEdges(id)) {
      const { minlen, nestingEdge } = graph.edge(edge);
      if (!nestingEdge) continue;
      const border = isBefore ? edge.v : edge.w;
      const label = graph.node(border);
      const rank = graph.node(id).rank + (isBefore ? -minlen : minlen);
      if (label.rank !== undefined && (isBefore ? label.rank <= rank : label.rank >= rank)) continue;
      label.rank = rank;
      reach(border, isBefore);
    }
  };
  for (const id of nodes.keys()) {
    reach(id, true);
    reach(id, false);
  }
}

// An edge bends where it passes a column between its ends.
function bend(edge, nodes, columns, graph) {
  const [from, to] = ends(edge, nodes);
  const points = graph.edge({ v: from.id, w: to.id, name: edge.id })?.points ?? [];
  edge.bends = [];
  for (let k = from.column + 1; k < to.column; k++) {
    const y = points.find(({ x }) => Math.abs(x - columns[k].from) < 0.5)?.y;
    if (y !== undefined) edge.bends.push({ column: k, x: columns[k].x, y, half: 6 });
  }
}

// What stands in a box or passes within it, and the columns from the first to the last of it.
function gather(box, { nodes, boxes, edges }) {
  const isIn = (id) => id !== null && (id === box.id || isIn(boxes.get(id).parent));
  const members = new Set([...nodes.values()].filter((node) => isIn(node.parent)));
  const isWithin = (edge) => members.has(nodes.get(edge.source)) && members.has(nodes.get(edge.target));
  box.content = [...members, ...edges.filter(isWithin).flatMap((edge) => edge.bends)];
  box.first = Math.min(...box.content.map((item) => item.column));
  box.last = Math.max(...box.content.map((item) => item.column));
}

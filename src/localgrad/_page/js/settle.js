"use strict";
// Heights for nodes, bends and rims of boxes whose order in each column is known: near those they
// are joined to, so that chains are straight, and apart from their neighbours.

const GAP = 5; // around a node
const TITLE = 18; // above a box
const ROUNDS = 5;
const FIRM = { rim: 1e6, node: 1, passing: 1e-4 }; // how hard it is to move

function settle({ nodes, boxes, edges }, columns) {
  const items = columns.map(() => []);
  for (const node of nodes.values()) {
    put(
      node,
      node.kind === "relay" || node.kind === "relays" ? FIRM.passing : FIRM.node,
      node.half + GAP,
      items,
    );
  }
  for (const edge of edges) {
    const [from, to] = ends(edge, nodes);
    if (from.column === to.column) continue;
    for (const point of edge.bends) put(point, FIRM.passing, 7, items);
    const way = [from, ...edge.bends, to];
    for (let k = 1; k < way.length; k++) join(way[k - 1], way[k]);
  }
  const nested = [...boxes.values()].sort((a, b) => depth(b, boxes) - depth(a, boxes));
  for (const box of nested) frame(box, nested, items);
  for (const column of items) column.sort((a, b) => a.y - b.y);

  const free = items.map((column) => column.filter((item) => item.firm !== FIRM.rim));
  free.forEach(stack);
  const leftward = [...free].reverse();
  for (let round = 0; round < ROUNDS; round++) {
    sweep(leftward, ["right"]);
    sweep(free, ["left"]);
    level(free);
    for (let k = 0; k < 2; k++) {
      sweep(leftward, ["left", "right"]);
      sweep(free, ["left", "right"]);
    }
    for (let k = 0; k < 3; k++) clear(nested, items);
  }
  for (const box of nested) {
    box.top = Math.min(...box.tops.map((rim) => rim.y));
    box.bottom = Math.max(...box.bottoms.map((rim) => rim.y));
  }
}

// Into its column, with the room it needs above and below.
function put(item, firm, room, items) {
  Object.assign(item, { firm, left: [], right: [], above: room, below: room });
  items[item.column].push(item);
}

// Straight ways matter most where something only passes.
function join(a, b) {
  const passing = [a, b].filter((item) => item.firm === FIRM.passing).length;
  const weight = [4, 1, 8][passing];
  a.right.push({ item: b, weight });
  b.left.push({ item: a, weight });
}

function depth(box, boxes) {
  return box.parent === null ? 0 : 1 + depth(boxes.get(box.parent), boxes);
}

// A rim above and one below a box in each of its columns. Where it has nothing, they keep its place.
function frame(box, nested, items) {
  const inner = nested.filter((other) => other.parent === box.id);
  box.padding = PADDING + Math.max(0, ...inner.map((other) => other.padding - PADDING + 7));
  Object.assign(box, { tops: [], bottoms: [] });
  let heights = [0];
  for (let k = box.first; k <= box.last; k++) {
    const here = [...box.content, ...inner.flatMap((other) => other.rims)].filter(
      (item) => item.column === k,
    );
    if (here.length) heights = here.map((item) => item.y);
    const [top, bottom] = [Math.min(...heights) - 0.1, Math.max(...heights) + 0.1].map((y) => ({
      y,
      column: k,
    }));
    put(top, FIRM.rim, TITLE, items);
    put(bottom, FIRM.rim, 4, items);
    top.below = bottom.above = 3;
    box.tops.push(top);
    box.bottoms.push(bottom);
  }
  box.rims = [...box.tops, ...box.bottoms];
  for (const other of inner) box.content.push(...other.rims);
}

// One below the other, around zero.
function stack(column) {
  let y = 0;
  column.forEach((item, k) => {
    y += k ? column[k - 1].below + item.above : 0;
    item.y = y;
  });
  for (const item of column) item.y -= y / 2;
}

// Take out what rises or falls from one end to the other: in a column distances stay as they are.
function level(columns) {
  const points = columns.flatMap((column, k) =>
    column.filter((item) => item.firm === FIRM.node).map(({ y }) => [k, y]),
  );
  const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const [middle, height] = [mean(points.map(([k]) => k)), mean(points.map(([, y]) => y))];
  const square = mean(points.map(([k]) => (k - middle) ** 2));
  const slope = square && mean(points.map(([k, y]) => (k - middle) * (y - height))) / square;
  columns.forEach((column, k) => column.forEach((item) => (item.y -= slope * (k - middle))));
}

// Every column in turn towards those on some sides of it.
function sweep(columns, sides) {
  for (const column of columns) {
    for (const item of column) item.goal = middle(item, sides);
    spread(column);
  }
}

// The weighted median of the heights that an item is joined to.
function middle(item, sides) {
  const links = sides.flatMap((side) => item[side]).sort((a, b) => a.item.y - b.item.y);
  const half = links.reduce((sum, link) => sum + link.weight, 0) / 2;
  let sum = 0;
  for (let k = 0; k < links.length; k++) {
    sum += links[k].weight;
    if (sum === half) return (links[k].item.y + links[k + 1].item.y) / 2;
    if (sum > half) return links[k].item.y;
  }
  return item.y;
}

// Rims around what is in their box, the same in all columns, and all others away from there.
function clear(boxes, items) {
  for (const { content, tops, bottoms } of boxes) {
    const top = Math.min(...content.map((item) => item.y - item.above));
    const bottom = Math.max(...content.map((item) => item.y + item.below));
    for (const rim of tops) rim.y = top - rim.below;
    for (const rim of bottoms) rim.y = bottom + rim.above;
  }
  for (const column of items) {
    for (const item of column) item.goal = item.y;
    spread(column);
  }
}

// As near to their goals as their distances allow: least squares, by merging those that touch.
function spread(column) {
  const blocks = [];
  let offset = 0;
  column.forEach((item, k) => {
    offset += k ? column[k - 1].below + item.above : 0;
    item.offset = offset;
    let block = { weight: item.firm, goal: item.goal - offset, items: [item] };
    while (blocks.length && blocks[blocks.length - 1].goal > block.goal) {
      const before = blocks.pop();
      const weight = before.weight + block.weight;
      const goal = (before.goal * before.weight + block.goal * block.weight) / weight;
      block = { weight, goal, items: [...before.items, ...block.items] };
    }
    blocks.push(block);
  });
  for (const { goal, items } of blocks) for (const item of items) item.y = goal + item.offset;
}

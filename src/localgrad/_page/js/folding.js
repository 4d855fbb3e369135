"use strict";
// Which groups are folded, and what is shown of a film then.

const INITIALLY = 100; // nodes at first, at most if that can be had by folding

// The groups of a film: scopes, loops, branches, and at the bottom the copies of a vertex.
class Groups {
  constructor(film) {
    this.film = film;
    this.all = new Map();
    film.units.forEach((unit, u) => {
      const path = unit.stack ? [...unit.group, unit.stack] : unit.group;
      for (let depth = 1; depth <= path.length; depth++)
        this.put(path.slice(0, depth), depth > unit.group.length, u);
    });
    // A group of one vertex, or of all that is in the group around, says nothing.
    for (const [key, group] of this.all) {
      const around = this.all.get(JSON.stringify(group.path.slice(0, -1)));
      if (group.units.length < 2 || (group.isStack && around?.units.length === group.units.length))
        this.all.delete(key);
    }
    this.around = film.units.map(() => []);
    for (const [key, group] of this.all) for (const u of group.units) this.around[u].push(key);
    for (const keys of this.around)
      keys.sort((a, b) => this.all.get(a).path.length - this.all.get(b).path.length);
    for (const group of this.all.values()) group.depth = this.around[group.units[0]].indexOf(group.key);
  }

  put(path, isStack, u) {
    const key = JSON.stringify(path);
    if (!this.all.has(key))
      this.all.set(key, { key, path, isStack, label: path[path.length - 1], units: [] });
    this.all.get(key).units.push(u);
  }
}

class Folding {
  constructor(films) {
    this.groups = films.map((film) => new Groups(film));
    this.folded = new Set();
    this.relays = true;
    this.leaves = true;
    this.depth = Math.max(
      0,
      ...this.groups.flatMap(({ all }) => [...all.values()].map((group) => group.depth + 1)),
    );
    while (this.depth > 0 && Math.max(...films.map((_, side) => this.count(side))) > INITIALLY)
      this.toDepth(this.depth - 1);
  }

  // Fold what lies deeper, unfold the rest.
  toDepth(depth) {
    this.depth = Math.max(0, depth);
    this.folded = new Set();
    for (const { all } of this.groups) {
      for (const group of all.values()) if (group.depth >= this.depth) this.folded.add(group.key);
    }
    const deepest = Math.max(
      0,
      ...this.groups.flatMap(({ all }) => [...all.values()].map((group) => group.depth + 1)),
    );
    this.depth = Math.min(this.depth, deepest);
  }

  fold(key) {
    this.folded.add(key);
  }

  unfold(key) {
    this.folded.delete(key);
  }

  // Unfold all that hides a unit.
  reveal(side, u) {
    if (this.groups[side].film.units[u].kind === "relay") this.relays = true;
    for (const key of this.groups[side].around[u]) this.folded.delete(key);
  }

  // Where a unit is seen: as itself, in the outermost folded group, or not at all.
  place(side, u) {
    const { film, around } = this.groups[side];
    if (!this.relays && film.units[u].kind === "relay") return null;
    return around[u].find((key) => this.folded.has(key)) ?? `u${u}`;
  }

  count(side) {
    return new Set(this.groups[side].film.units.map((_, u) => this.place(side, u))).size;
  }

  // The nodes, boxes and edges to draw.
  shown(side) {
    const { film, all, around } = this.groups[side];
    const places = film.units.map((_, u) => this.place(side, u));
    const nodes = new Map();
    const boxes = new Map();
    // The innermost open box around a unit, which is opened with all boxes around it.
    const boxOf = (u, until) => {
      let box = null;
      for (const key of around[u]) {
        if (key === until) break;
        const group = all.get(key);
        if (group.isStack) continue;
        if (!boxes.has(key)) boxes.set(key, { id: key, group, parent: box });
        box = key;
      }
      return box;
    };
    film.units.forEach((unit, u) => {
      const id = places[u];
      if (id === null) return;
      if (!nodes.has(id)) {
        const group = all.get(id) ?? null;
        nodes.set(id, { id, group, unit: group ? null : unit, units: [], parent: boxOf(u, id) });
      }
      nodes.get(id).units.push(u);
    });
    for (const node of nodes.values()) {
      const levels = node.units.map((u) => film.units[u].level);
      [node.low, node.high] = [Math.min(...levels), Math.max(...levels)];
      node.kind = node.unit
        ? node.unit.kind
        : node.units.every((u) => film.units[u].kind === "relay")
          ? "relays"
          : "group";
    }
    return { nodes, boxes, edges: this.edges(film, places) };
  }

  edges(film, places) {
    const found = new Map();
    // A relay that is hidden is read where it comes from. It has one parent, which stands before it.
    const origin = film.units.map((_, u) => u);
    for (const [parent, child] of film.edges) if (places[child] === null) origin[child] = parent;
    const from = (u) => (places[u] === null && origin[u] !== u ? from(origin[u]) : u);
    for (const [parent, child, isDirect] of film.edges) {
      const [source, target] = [places[from(parent)], places[child]];
      if (!source || !target || source === target) continue;
      const id = `${source}>${target}`;
      if (!found.has(id)) found.set(id, { id, source, target, readers: [], isDirect: false });
      const edge = found.get(id);
      edge.isDirect = edge.isDirect || isDirect;
      if (film.hasSynapses(child)) edge.readers.push(child);
    }
    return [...found.values()];
  }
}

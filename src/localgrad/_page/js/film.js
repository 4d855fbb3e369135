"use strict";
// The numbers of one rule's run, as they were packed by page.py.

async function unpacked(id) {
  const text = atob(document.getElementById(id).textContent);
  const packed = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) packed[k] = text.charCodeAt(k);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const KINDS = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array };

// An array whose numbers' first bytes come first, then their second ones, and so on.
function array(bytes, { start, shape, type }) {
  const Kind = KINDS[type];
  const size = Kind.BYTES_PER_ELEMENT;
  const length = shape.reduce((a, b) => a * b, 1);
  const raw = new Uint8Array(length * size);
  for (let plane = 0; plane < size; plane++) {
    for (let k = 0, from = start + plane * length; k < length; k++) raw[k * size + plane] = bytes[from + k];
  }
  return new Kind(raw.buffer);
}

class Film {
  constructor(told, bytes, side) {
    Object.assign(this, { side, rule: told.rule, times: told.times, units: told.units, edges: told.edges });
    for (const name of ["energy", "loss", "error", "change", "plastic", "delivered"]) {
      this[name] = told[name] && array(bytes, told[name]);
    }
    this.byName = new Map(this.units.map((unit, u) => [unit.name, u]));
    this.firstLearned = this.units.map((_, u) => this.plasticRows(u)[0] ?? Infinity);
  }

  // The last row at or before a step.
  rowAt(step) {
    let row = 0;
    while (row + 1 < this.times.length && this.times[row + 1] <= step) row++;
    return row;
  }

  at(series, unit, row) {
    return series[unit * this.times.length + row];
  }

  // One of error, change and energy, of one unit.
  number(quantity, unit, row) {
    if (quantity !== "energy") return this.at(this[quantity], unit, row);
    if (this.units[unit].kind === "loss") return Math.abs(this.loss[row]);
    return 0.5 * this.at(this.error, unit, row) ** 2;
  }

  // The same of several units together: lengths add up in squares, energies as they are.
  total(quantity, units, row) {
    if (units.length === 1) return this.number(quantity, units[0], row);
    let sum = 0;
    for (const unit of units) {
      const number = this.number(quantity, unit, row);
      sum += quantity === "energy" ? number : number * number;
    }
    return quantity === "energy" ? sum : Math.sqrt(sum);
  }

  // Whether synapses onto a unit learn now. Where nothing is to be learned, nothing does.
  learns(unit, row) {
    return this.hasSynapses(unit) && this.at(this.plastic, unit, row) === 1;
  }

  hasSynapses(unit) {
    return this.units[unit].leaves.length > 0;
  }

  plasticRows(unit) {
    const rows = [];
    for (let row = 0; row < this.times.length; row++) if (this.at(this.plastic, unit, row)) rows.push(row);
    return rows;
  }
}

"use strict";
// From a number to a colour, on a logarithmic scale. Zero, and what is no number, stand apart.

const QUANTITIES = { error: "Error |e|", change: "Value change |x − x(0)|", energy: "Energy ½|e|²" };
const SHADES = 64;

// A colour of the style sheet, in the theme that is on.
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

class Scale {
  constructor(quantity, films) {
    this.quantity = quantity;
    [this.low, this.high] = Scale.limits(quantity, films);
    this.zero = colour("zero");
    this.broken = colour("broken");
    this.shades = Scale.ramp(colour(`ramp-${quantity}`).split(/\s+/));
  }

  // Nearly all that occurs but zero. What is far below the rest is rounding, what is far above it
  // diverges: neither shall take the colours from the rest.
  static limits(quantity, films) {
    const seen = [];
    for (const film of films) {
      const stride = Math.max(1, Math.floor((film.units.length * film.times.length) / 40000));
      for (let k = 0; k < film.units.length * film.times.length; k += stride) {
        const number = film.number(quantity, Math.floor(k / film.times.length), k % film.times.length);
        if (number > 0 && Number.isFinite(number)) seen.push(number);
      }
    }
    if (!seen.length) return [0.1, 1];
    seen.sort((a, b) => a - b);
    const [few, half, most] = [0.01, 0.5, 0.998].map((part) => seen[Math.round(part * (seen.length - 1))]);
    const high = Math.min(most, half * 1e9);
    const low = Math.max(few, Math.min(high * 1e-8, half * 1e-2));
    return low < high ? [low, high] : [high / 10, high];
  }

  static ramp(stops) {
    const parts = stops.map((stop) => [1, 3, 5].map((k) => parseInt(stop.slice(k, k + 2), 16)));
    return Array.from({ length: SHADES }, (_, k) => {
      const place = (k / (SHADES - 1)) * (parts.length - 1);
      const left = Math.min(Math.floor(place), parts.length - 2);
      const mixed = parts[left].map((a, c) => Math.round(a + (parts[left + 1][c] - a) * (place - left)));
      return `rgb(${mixed.join(",")})`;
    });
  }

  // From 0, the lowest, to 1.
  place(number) {
    const place = Math.log(number / this.low) / Math.log(this.high / this.low);
    return Math.min(Math.max(place, 0), 1);
  }

  colour(number) {
    if (!Number.isFinite(number)) return this.broken;
    if (number === 0) return this.zero;
    return this.shades[Math.round(this.place(number) * (SHADES - 1))];
  }

  // Round numbers between the limits: powers of ten, or where these are few, others too.
  ticks() {
    const [from, to] = [this.low, this.high].map(Math.log10);
    const stride = Math.max(1, Math.ceil((to - from) / 5));
    const digits = to - from < 1 ? [1, 1.5, 2, 3, 4, 5, 7] : to - from < 2.5 ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(from); power <= to; power += stride) {
      for (const digit of digits) found.push(+`${digit}e${power}`);
    }
    const ticks = found.filter((number) => number >= this.low && number <= this.high);
    return ticks.length > 1 ? ticks : [this.low, this.high];
  }
}

// A number in few letters.
function shortNumber(number, digits = 3) {
  if (number === null || number === undefined) return "";
  if (Number.isNaN(number)) return "not a number";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  if (number === 0) return "0";
  const size = Math.abs(number);
  const [front, power] = number.toExponential(digits - 1).split("e");
  const text = size >= 1e-3 && size < 1e4 ? String(+number.toPrecision(digits)) : `${+front}e${+power}`;
  return text.replace(/-/g, "−");
}

function drawLegend(place, scale) {
  const make = (tag, name, text = "") =>
    Object.assign(document.createElement(tag), { className: name, textContent: text });
  const bar = make("div", "bar");
  bar.style.background = `linear-gradient(90deg, ${scale.shades.join(",")})`;
  const ticks = make("div", "ticks");
  let free = 0;
  for (const number of scale.ticks()) {
    const tick = make("span", "", shortNumber(number, 2));
    const room = 2 + 1.6 * tick.textContent.length; // half its width, in hundredths of the bar's
    const place = Math.min(Math.max(100 * scale.place(number), room), 100 - room);
    if (place - room < free) continue;
    tick.style.left = `${place}%`;
    free = place + room;
    ticks.append(tick);
  }
  const keys = make("div", "keys");
  for (const [name, text] of [
    ["zero", "exactly 0"],
    ["broken", "not finite"],
    ["learns", "learns now"],
    ["leaf", "parameter"],
    ["learned", "that has learned"],
  ]) {
    const key = make("span", "", text);
    key.prepend(make("i", name));
    keys.append(key);
  }
  place.replaceChildren(make("h3", "", QUANTITIES[scale.quantity]), bar, ticks, keys);
}

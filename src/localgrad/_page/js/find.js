"use strict";
// Search by name: matches are marked while one types, Enter goes from one to the next.

class Find {
  constructor(input, count, stages, onGo) {
    Object.assign(this, { input, count, stages, onGo, matches: [], current: -1 });
    input.addEventListener("input", () => this.search());
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.go(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") {
        input.value = "";
        this.search();
        input.blur();
      }
      event.stopPropagation();
    });
  }

  search() {
    const sought = this.input.value.trim().toLowerCase();
    this.current = -1;
    this.matches = [];
    for (const { film } of sought ? this.stages : []) {
      film.units.forEach(
        (unit, u) => unit.name.toLowerCase().includes(sought) && this.matches.push({ side: film.side, u }),
      );
    }
    this.mark();
  }

  go(direction) {
    const total = this.matches.length;
    if (!total) return;
    const from = this.current < 0 && direction < 0 ? 0 : this.current;
    this.current = (from + direction + total) % total;
    this.onGo(this.matches[this.current]);
    this.mark();
  }

  // Again after folding: matches may be somewhere else.
  mark() {
    for (const stage of this.stages) {
      const { side } = stage.film;
      const place = ({ u }) => stage.folding.place(side, u);
      const here = this.matches.filter((match) => match.side === side);
      stage.mark("found", here.map(place).filter(Boolean));
      const current = this.matches[this.current];
      stage.mark("current", current?.side === side ? [place(current)].filter(Boolean) : []);
    }
    const total = this.matches.length;
    this.count.textContent = !this.input.value.trim()
      ? ""
      : this.current < 0
        ? `${total} found`
        : `${this.current + 1} of ${total}`;
  }
}

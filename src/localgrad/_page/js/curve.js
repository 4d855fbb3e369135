"use strict";
// The free energy over time, with the time shown as a line.

const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000]; // steps between marks

class Curve {
  constructor(place, films, clock) {
    this.place = place;
    this.films = films;
    this.clock = clock;
    this.cursor = Object.assign(document.createElement("div"), { className: "now" });
    this.title = place.appendChild(Object.assign(document.createElement("div"), { className: "title" }));
    this.frame = place.appendChild(Object.assign(document.createElement("div"), { className: "frame" }));
    new ResizeObserver(() => this.plot && this.plot.setSize(this.size())).observe(this.frame);
    const seek = (event) => {
      const box = this.plot.over.getBoundingClientRect();
      clock.seekStep(Math.round(this.plot.posToVal(event.clientX - box.left, "x")));
    };
    place.addEventListener("pointerdown", (event) => {
      if (!this.plot) return;
      place.setPointerCapture(event.pointerId);
      seek(event);
    });
    place.addEventListener("pointermove", (event) => event.buttons && this.plot && seek(event));
  }

  size() {
    return { width: this.frame.clientWidth, height: this.frame.clientHeight };
  }

  // All of it; again whenever the theme changes.
  draw() {
    this.plot?.destroy();
    const data = [this.clock.ticks];
    const series = [{ label: "step" }];
    for (const film of this.films) {
      for (const [name, dash, label] of [
        ["energy", undefined, "F"],
        ["loss", [3, 4], "loss term"],
      ]) {
        const rows = new Map(film.times.map((time, row) => [time, film[name][row]]));
        data.push(this.clock.ticks.map((tick) => (Number.isFinite(rows.get(tick)) ? rows.get(tick) : null)));
        series.push({
          label: `${label}, ${film.rule}`,
          stroke: colour(`side-${film.side}`),
          width: dash ? 1.2 : 2,
          dash,
          spanGaps: true,
          points: { show: false },
        });
      }
    }
    const seen = data
      .slice(1)
      .flat()
      .filter((number) => number !== null);
    const positive = seen.filter((number) => number > 0);
    const isLogarithmic =
      seen.every((number) => number >= 0) &&
      Math.max(...positive) >
        200 *
          Math.min(
            ...data
              .filter((_, k) => k % 2)
              .flat()
              .filter((n) => n > 0),
          );
    if (isLogarithmic)
      for (let k = 1; k < data.length; k++) data[k] = data[k].map((number) => (number > 0 ? number : null));
    const axis = {
      stroke: colour("faint"),
      font: `11px ${getComputedStyle(document.body).fontFamily}`,
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
    };
    const options = {
      ...this.size(),
      series,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
      scales: { x: { time: false }, y: { distr: isLogarithmic ? 3 : 1 } },
      axes: [
        { ...axis, size: 22, gap: 2, incrs: WHOLE },
        {
          ...axis,
          size: 58,
          gap: 4,
          values: (_, splits) => splits.map((number) => (number === null ? "" : shortNumber(number, 2))),
        },
      ],
      hooks: { draw: [() => this.show()] },
    };
    this.plot = new uPlot(options, data, this.frame);
    this.plot.over.append(this.cursor);
    this.drawTitle(isLogarithmic);
    this.show();
  }

  drawTitle(isLogarithmic) {
    const make = (className, text = "") =>
      Object.assign(document.createElement("span"), { className, textContent: text });
    const parts = [make("", `Free energy${isLogarithmic ? ", logarithmic" : ""}`)];
    for (const film of this.films) {
      const part = make("line", film.rule);
      part.style.setProperty("--colour", colour(`side-${film.side}`));
      parts.push(part);
    }
    parts.push(make("line dashed", "what the loss adds to it"));
    this.title.replaceChildren(...parts);
  }

  show() {
    if (!this.plot) return;
    this.cursor.style.transform = `translateX(${this.plot.valToPos(this.clock.step, "x")}px)`;
  }
}

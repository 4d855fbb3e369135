"use strict";
// Everything together.

const $ = (id) => document.getElementById(id);

class Wave {
  constructor(films) {
    this.films = films;
    this.folding = new Folding(films);
    this.stages = films.map(
      (film) => new Stage(film, $("sides").appendChild(document.createElement("section")), this.folding),
    );
    this.clock = new Clock(films, () => this.tick());
    this.curve = new Curve($("curve"), films, this.clock);
    this.card = new Card($("card"), this.stages);
    this.find = new Find($("find"), $("found"), this.stages, (match) => this.goTo(match));
    this.scale = new Scale("error", films);
  }

  // What is to be seen on a side now, as plain data, for scripts that drive the page.
  look(side = 0) {
    return this.stages[side].look();
  }

  tick() {
    const { clock } = this;
    for (const stage of this.stages) stage.paint(stage.film.rowAt(clock.step), this.scale);
    this.curve.show();
    this.card.write();
    $("slider").value = clock.index;
    $("slider").setAttribute("aria-valuetext", `step ${clock.step}`);
    $("time").textContent = `step ${clock.step} of ${clock.ticks[clock.ticks.length - 1]}`;
    $("play").setAttribute("aria-pressed", clock.isPlaying);
    $("play").setAttribute("aria-label", clock.isPlaying ? "Pause" : "Play");
  }

  // Draw the graphs anew, folded as they are to be now.
  redraw() {
    this.card.pin(false);
    for (const stage of this.stages) stage.draw();
    this.find.mark();
    $("leaves").setAttribute("aria-pressed", this.folding.leaves);
    $("relays").setAttribute("aria-pressed", this.folding.relays);
    this.tick();
  }

  colourBy(quantity) {
    document.querySelector(`[name=quantity][value=${quantity}]`).checked = true;
    this.scale = new Scale(quantity, this.films);
    drawLegend($("legend"), this.scale);
    this.tick();
  }

  retheme(theme) {
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    for (const stage of this.stages) stage.restyle();
    this.curve.draw();
    this.colourBy(this.scale.quantity);
  }

  foldTo(depth) {
    this.folding.toDepth(depth);
    this.redraw();
  }

  // Fold or unfold what was clicked twice.
  turn(key, isBox) {
    if (isBox) this.folding.fold(key);
    else this.folding.unfold(key);
    this.redraw();
  }

  toggle(what) {
    this.folding[what] = !this.folding[what];
    this.redraw();
  }

  fit() {
    for (const stage of this.stages) stage.fit();
  }

  zoom(factor) {
    for (const { cy } of this.stages)
      cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
  }

  // Unfold what hides a unit, bring it into the middle and tell about it.
  goTo({ side, u }) {
    const id = `u${u}`;
    if (this.folding.place(side, u) !== id) {
      this.folding.reveal(side, u);
      this.redraw();
    }
    this.stages[side].centre(id);
    this.card.show(side, id);
    this.card.pin(true);
  }

  // A time that was asked for: one that runs stops there.
  seek(index) {
    this.clock.isPlaying = false;
    this.clock.seek(index);
  }

  speedUp(by) {
    const k = SPEEDS.indexOf(this.clock.speed) + by;
    this.clock.speed = SPEEDS[Math.min(Math.max(k, 0), SPEEDS.length - 1)];
    $("speed").value = this.clock.speed;
  }
}

// What buttons and keys do.
function deeds(wave) {
  const { clock, folding, card } = wave;
  return {
    play: () => clock.toggle(),
    first: () => wave.seek(0),
    last: () => wave.seek(clock.ticks.length - 1),
    by: (ticks) => () => wave.seek(clock.index + ticks),
    fit: () => wave.fit(),
    fold: () => wave.foldTo(folding.depth - 1),
    unfold: () => wave.foldTo(folding.depth + 1),
    leaves: () => wave.toggle("leaves"),
    relays: () => wave.toggle("relays"),
    theme: () => wave.retheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
    help: () => ($("keys").open ? $("keys").close() : $("keys").showModal()),
    unpin: () => card.pin(false),
  };
}

function wireControls(wave) {
  const { clock } = wave;
  const deed = deeds(wave);
  for (const id of ["play", "first", "last", "fit", "fold", "unfold", "leaves", "relays", "theme", "help"])
    $(id).addEventListener("click", deed[id]);
  $("back").addEventListener("click", deed.by(-1));
  $("on").addEventListener("click", deed.by(1));
  $("slider").max = clock.ticks.length - 1;
  $("slider").addEventListener("input", () => wave.seek(+$("slider").value));
  for (const speed of SPEEDS)
    $("speed").append(
      Object.assign(document.createElement("option"), { value: speed, textContent: `${speed} / s` }),
    );
  $("speed").value = clock.speed;
  $("speed").addEventListener("change", () => (clock.speed = +$("speed").value));
  for (const input of document.querySelectorAll("[name=quantity]"))
    input.addEventListener("change", () => wave.colourBy(input.value));
  listen({
    " ": deed.play,
    ArrowLeft: deed.by(-1),
    ArrowRight: deed.by(1),
    "shift ArrowLeft": deed.by(-10),
    "shift ArrowRight": deed.by(10),
    Home: deed.first,
    End: deed.last,
    ArrowUp: () => wave.speedUp(1),
    ArrowDown: () => wave.speedUp(-1),
    "/": () => $("find").select(),
    f: () => wave.foldTo(0),
    u: () => wave.foldTo(Infinity),
    "[": deed.fold,
    "]": deed.unfold,
    0: deed.fit,
    "+": () => wave.zoom(1.25),
    "-": () => wave.zoom(0.8),
    e: () => wave.colourBy("error"),
    v: () => wave.colourBy("change"),
    g: () => wave.colourBy("energy"),
    p: deed.leaves,
    r: deed.relays,
    t: deed.theme,
    "?": deed.help,
    Escape: deed.unpin,
  });
}

function wireGraph(wave, { cy, film }) {
  const { card, stages } = wave;
  cy.on("mouseover", "node[^isBox]", ({ target }) => {
    if (!card.isPinned) card.show(film.side, target.id());
    if (!target.data("of"))
      stages[film.side].mark(
        "near",
        [target, ...target.connectedEdges()].map((element) => element.id()),
      );
  });
  cy.on("mouseout", "node", () => {
    stages[film.side].mark("near", []);
    if (!card.isPinned) card.hide();
  });
  cy.on("onetap", ({ target }) => {
    card.pin(false);
    if (target === cy || target.isEdge() || target.data("isBox")) return;
    card.show(film.side, target.id());
    card.pin(true);
  });
  cy.on("dbltap", "node.group, node.relays, node.box", ({ target }) =>
    wave.turn(target.id(), target.data("isBox")),
  );
}

async function start() {
  const [story, numbers] = await Promise.all([unpacked("story"), unpacked("numbers")]);
  const told = JSON.parse(new TextDecoder().decode(story));
  const wave = new Wave(told.films.map((film, side) => new Film(film, numbers, side)));
  wireControls(wave);
  for (const stage of wave.stages) wireGraph(wave, stage);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ({ matches }) =>
    wave.retheme(matches ? "dark" : "light"),
  );
  drawHelp($("keys"));
  wave.redraw();
  drawLegend($("legend"), wave.scale);
  wave.curve.draw();
  new ResizeObserver(() => wave.fit()).observe($("sides"));
  window.wave = wave;
  document.body.dataset.ready = Math.round(performance.now());
}

start();

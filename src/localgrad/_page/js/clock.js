"use strict";
// One clock for all sides: it ticks at every step that any of them has recorded.

const SPEEDS = [1, 2, 5, 10, 20, 30, 60];

class Clock {
  constructor(films, onTick) {
    this.ticks = [...new Set(films.flatMap((film) => film.times))].sort((a, b) => a - b);
    this.index = 0;
    this.isPlaying = false;
    this.onTick = onTick;
    // The whole in about ten seconds.
    this.speed = SPEEDS.find((speed) => speed >= this.ticks.length / 10) ?? SPEEDS[SPEEDS.length - 1];
  }

  get step() {
    return this.ticks[this.index];
  }

  seek(index) {
    this.index = Math.min(Math.max(index, 0), this.ticks.length - 1);
    this.onTick();
  }

  // The tick at a step, or the last before it.
  seekStep(step) {
    const later = this.ticks.findIndex((tick) => tick > step);
    this.seek(later < 0 ? this.ticks.length - 1 : later - 1);
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  play() {
    if (this.index === this.ticks.length - 1) this.index = 0;
    this.isPlaying = true;
    this.since = performance.now();
    this.onTick();
    requestAnimationFrame((now) => this.frame(now));
  }

  pause() {
    this.isPlaying = false;
    this.onTick();
  }

  // No tick is left out, so that no synapse learns unseen.
  frame(now) {
    if (!this.isPlaying) return;
    if (now - this.since >= 1000 / this.speed) {
      this.since = Math.max(this.since + 1000 / this.speed, now - 1000 / this.speed);
      if (this.index === this.ticks.length - 1) return this.pause();
      this.seek(this.index + 1);
    }
    requestAnimationFrame((later) => this.frame(later));
  }
}

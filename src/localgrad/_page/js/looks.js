"use strict";
// What nodes and edges look like; the colours are those of the style sheet.

function looks() {
  const font = getComputedStyle(document.body).fontFamily;
  const label = {
    "font-family": font,
    "font-size": 11,
    "min-zoomed-font-size": 7,
    color: colour("ink"),
    "text-outline-color": colour("ground"),
    "text-outline-width": 2,
  };
  return [
    {
      selector: "node",
      style: {
        "background-color": colour("zero"),
        "border-width": 1.5,
        "border-color": colour("rim"),
        "overlay-opacity": 0,
        "z-index": 2,
        "z-index-compare": "manual",
      },
    },
    { selector: "node[width]", style: { width: "data(width)", height: "data(height)" } },
    {
      selector: "node[textWidth]",
      style: {
        ...label,
        label: "data(label)",
        "text-valign": "bottom",
        "text-margin-y": 4,
        "text-wrap": "wrap",
        "text-max-width": "data(textWidth)",
        "line-height": 1.1,
      },
    },
    { selector: "node.loss", style: { shape: "diamond", "font-weight": "bold" } },
    { selector: "node.relay", style: { "border-width": 1 } },
    {
      selector: "node.group",
      style: { shape: "round-rectangle", "corner-radius": 6, "font-weight": "bold" },
    },
    { selector: "node.relays", style: { shape: "round-rectangle", "corner-radius": 7 } },
    {
      selector: "node.stack",
      style: {
        ghost: "yes",
        "ghost-offset-x": 4,
        "ghost-offset-y": -4,
        "ghost-opacity": 0.5,
        "font-weight": "normal",
      },
    },
    { selector: "node.far", style: { width: "data(farWidth)", height: "data(farHeight)" } },
    {
      selector: "node.box",
      style: {
        ...label,
        label: "data(label)",
        shape: "round-rectangle",
        "corner-radius": 10,
        "background-color": colour("rim"),
        "background-opacity": 0.08,
        "border-width": 1,
        "border-color": colour("rim"),
        "border-opacity": 0.45,
        color: colour("faint"),
        "text-valign": "top",
        "text-margin-x": "data(shift)",
        "text-margin-y": -3,
        "z-index": 0,
        "z-index-compare": "manual",
      },
    },
    { selector: "node.leaf", style: { shape: "rectangle", width: 8, height: 8, "border-width": 1.25 } },
    { selector: "node.leaf.far", style: { visibility: "hidden" } },
    {
      selector: "edge",
      style: {
        width: 1.4,
        "line-color": colour("edge"),
        "target-arrow-color": colour("edge"),
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.7,
        "curve-style": "bezier",
        "overlay-opacity": 0,
        "z-index": 1,
        "z-index-compare": "manual",
      },
    },
    {
      selector: "edge.bent",
      style: {
        "curve-style": "round-segments",
        "segment-weights": "data(weights)",
        "segment-distances": "data(distances)",
        "segment-radii": 14,
        "edge-distances": "node-position",
      },
    },
    { selector: "edge.joined", style: { "line-style": "dashed" } },
    {
      selector: "edge.near",
      style: { "line-color": colour("found"), "target-arrow-color": colour("found"), width: 2.4 },
    },
    {
      selector: "node.near",
      style: { "outline-width": 2, "outline-color": colour("found"), "outline-offset": 2 },
    },
    {
      selector: "node.found",
      style: { "outline-width": 3, "outline-color": colour("found"), "outline-offset": 3 },
    },
    { selector: "node.current", style: { "outline-width": 6 } },
  ];
}

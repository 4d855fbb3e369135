"use strict";
// The keyboard, and the page that tells about it.

const KEYS = [
  ["space", "play or pause"],
  ["← →", "one step back, on"],
  ["shift ← →", "ten steps"],
  ["Home End", "first, last time"],
  ["↑ ↓", "faster, slower"],
  ["/", "search; Enter, shift Enter: next, previous"],
  ["f u", "fold all, unfold all"],
  ["[ ]", "fold, unfold one level"],
  ["0", "fit into view"],
  ["+ −", "zoom"],
  ["e v g", "colour by error, value change, energy"],
  ["p r", "show parameters, relays"],
  ["t", "dark or light"],
  ["Esc", "close, unpin"],
  ["?", "this page"],
];
const LEGEND = [
  ["column", "a level: the longest path to the loss, which stands at the right"],
  ["circle", "a vertex; small ones are relays, which hold a long edge back"],
  ["square", "a parameter, above the vertex that reads it"],
  ["strips", "a folded group, from its farthest to its nearest level"],
  ["double-click", "unfolds a group, folds a box"],
  ["click", "keeps the card of a vertex"],
];

function drawHelp(dialog) {
  const list = (rows, isKeys) => {
    const list = document.createElement("dl");
    for (const [name, meaning] of rows) {
      const term = document.createElement("dt");
      if (isKeys)
        for (const key of name.split(" "))
          term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
      else term.textContent = name;
      list.append(term, Object.assign(document.createElement("dd"), { textContent: meaning }));
    }
    return list;
  };
  const part = (title, content) => {
    const part = document.createElement("section");
    part.append(Object.assign(document.createElement("h3"), { textContent: title }), content);
    return part;
  };
  const columns = Object.assign(document.createElement("div"), { className: "columns" });
  columns.append(part("Keys", list(KEYS, true)), part("What is shown", list(LEGEND, false)));
  dialog.replaceChildren(columns);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

// `deeds` has a function for each key.
function listen(deeds) {
  document.addEventListener("keydown", (event) => {
    const isTyping =
      event.target.matches("select, input[type=search]") || event.ctrlKey || event.metaKey || event.altKey;
    const name = (event.shiftKey && event.key.startsWith("Arrow") ? "shift " : "") + event.key;
    const isButton = event.target.matches("button") && event.key === " ";
    const isElsewhere = document.querySelector("dialog[open]") && name !== "?"; // which closes by itself
    if (isTyping || isButton || isElsewhere || !deeds[name]) return;
    event.preventDefault();
    deeds[name]();
  });
}

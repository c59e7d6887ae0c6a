"use strict";
// Filters the rows of a report by its matrix, curve, slices, words and dots, all at once. Without this
// script, and on paper, the map is there with its colours, and still figures show the rest.
(async () => {
  const STEP = 50;
  const get = (id) => document.getElementById(id);
  const [words, wrong, said, slider, read, marker, map, more, found] =
    ["words", "wrong", "said", "coverage", "read", "marker", "map", "more", "found"].map(get);
  const packed = Uint8Array.from(atob(get("rows").textContent), (one) => one.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = await new Response(unpacked).json();
  const dots = [...map.querySelectorAll("circle")];
  const buttons = [...document.querySelectorAll("[data-cell], [data-slice]")];
  const rows = data.rows.map(
    ([id, title, description, actual, predicted, probability, slices], place) => ({
      title: title || id, description, probability, slices, place,
      actual: data.tags[actual], predicted: data.tags[predicted],
      cell: `${actual},${predicted}`, wrong: actual !== predicted,
      text: [id, title, description, data.tags[actual], data.tags[predicted]]
        .join("\n").toLocaleLowerCase(),
    }));
  const surest = [...rows].sort((one, other) => other.probability - one.probability);
  const listed = [...surest.filter((row) => row.wrong), ...surest.filter((row) => !row.wrong)];
  const none = { cell: null, slice: null, least: null, place: null };
  let filter = { ...none };
  let chosen = [];
  let shown = STEP;

  const mark = (name, place) =>
    dots.forEach((dot, at) => dot.classList.toggle(name, at === place));

  const line = (row) => {
    const cells = document.createElement("tr");
    const head = cells.appendChild(document.createElement("th"));
    head.scope = "row";
    head.className = "prose";
    const name = head.appendChild(document.createElement("button"));
    name.type = "button";
    name.textContent = row.title;
    name.addEventListener("click", () => {
      mark("marked", row.place);
      map.scrollIntoView({ block: "center" });
    });
    head.appendChild(document.createElement("p")).textContent = row.description;
    for (const value of [row.actual, row.predicted, row.probability.toFixed(3)]) {
      cells.appendChild(document.createElement("td")).textContent = value;
    }
    cells.lastChild.className = "number";
    for (const [event, place] of
      [["mouseenter", row.place], ["mouseleave", -1], ["focusin", row.place], ["focusout", -1]]) {
      cells.addEventListener(event, () => mark("pointed", place));
    }
    return cells;
  };

  const list = () => {
    found.querySelector("tbody").replaceChildren(...chosen.slice(0, shown).map(line));
    more.hidden = chosen.length <= shown;
  };

  const update = () => {
    const terms = words.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const [actual, predicted] = (filter.cell ?? "").split(",").map((at) => data.tags[at]);
    const asked = [
      filter.cell !== null
        && (actual === predicted ? `${actual}, right` : `${actual} taken for ${predicted}`),
      filter.slice !== null && `slice ${data.slices[filter.slice]}`,
      filter.least !== null && `probability from ${Math.min(1, filter.least).toFixed(3)}`,
      filter.place !== null && "one dot",
      wrong.checked && "errors only",
      terms.length > 0 && `with “${terms.join(" ")}”`,
    ].filter(Boolean);
    chosen = asked.length === 0 ? [] : listed.filter((row) =>
      (filter.cell === null || row.cell === filter.cell)
      && (filter.slice === null || row.slices.includes(filter.slice))
      && (filter.least === null || row.probability >= filter.least)
      && (filter.place === null || row.place === filter.place)
      && (row.wrong || !wrong.checked)
      && terms.every((term) => row.text.includes(term)));
    shown = STEP;
    list();
    const inside = new Set(chosen.map((row) => row.place));
    map.classList.toggle("filtered", asked.length > 0);
    dots.forEach((dot, at) => dot.classList.toggle("faint", asked.length > 0 && !inside.has(at)));
    mark("marked", -1);
    for (const button of buttons) {
      const { cell, slice } = button.dataset;
      button.setAttribute("aria-pressed", cell ? cell === filter.cell : Number(slice) === filter.slice);
    }
    said.textContent = asked.length === 0
      ? `${rows.length} rows, none chosen`
      : `${chosen.length} of ${rows.length} rows: ${asked.join(", ")}.`;
    get("to-rows").hidden = found.hidden = chosen.length === 0;
  };

  // All errors are here; of many right rows only some, each of which stands for several.
  const errors = rows.filter((row) => row.wrong).length;
  const weight = (data.total - errors) / (rows.length - errors || 1);
  const leastAt = (coverage) => {
    let left = coverage * data.total - 0.5;
    if (left < 0) return Infinity;
    const last = surest.find((row) => (left -= row.wrong ? 1 : weight) <= 0);
    return (last ?? surest.at(-1)).probability;
  };

  const [start, top, end, bottom, most] = data.axes;
  const show = (coverage) => {
    const [, risk] = data.curve.find(([at]) => at >= coverage) ?? data.curve.at(-1);
    marker.setAttribute("cx", start + coverage * (end - start));
    marker.setAttribute("cy", bottom - (risk / most) * (bottom - top));
    const to = Math.round(1000 * (1 - coverage));
    read.textContent = coverage === 0 ? "Nothing is published."
      : `${(100 * coverage).toFixed(1)}% published, from probability ${leastAt(coverage).toFixed(3)}: `
        + `${(100 * risk).toFixed(1)}% of these wrong, ${to} of 1,000 rows to a person.`;
  };
  const coverageOf = (event) => {
    const box = get("curve").getBoundingClientRect();
    const x = (480 * (event.clientX - box.left)) / box.width;
    return Math.min(1, Math.max(0, (x - start) / (end - start)));
  };
  const publish = () => {
    filter.least = leastAt(slider.value / 100);
    show(slider.value / 100);
    slider.setAttribute("aria-valuetext", read.textContent);
    update();
  };

  slider.addEventListener("input", publish);
  get("curve").addEventListener("pointermove", (event) => show(coverageOf(event)));
  get("curve").addEventListener("pointerleave", () => show(slider.value / 100));
  get("curve").addEventListener("click", (event) => {
    slider.value = 100 * coverageOf(event);
    publish();
  });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "true";
      const { cell, slice } = button.dataset;
      if (cell) filter.cell = pressed ? null : cell;
      else filter.slice = pressed ? null : Number(slice);
      update();
    });
  }
  const clear = () => {
    filter = { ...none };
    words.value = "";
    wrong.checked = false;
    slider.value = slider.defaultValue;
    show(slider.value / 100);
    update();
  };
  get("clear").addEventListener("click", clear);
  words.addEventListener("input", update);
  wrong.addEventListener("change", update);
  more.addEventListener("click", () => {
    shown += STEP;
    list();
    found.querySelectorAll("tbody button")[shown - STEP].focus();
  });
  rows.forEach((row) => {
    const dot = dots[row.place];
    const taken = row.wrong ? `, taken for ${row.predicted}` : "";
    dot.appendChild(document.createElementNS(dot.namespaceURI, "title")).textContent =
      `${row.title}: ${row.actual}${taken} (${row.probability.toFixed(2)})`;
    dot.addEventListener("click", () => {
      clear();
      filter.place = row.place;
      update();
      mark("marked", row.place);
    });
  });
  document.querySelectorAll(".live").forEach((part) => { part.hidden = false; });
  for (const name of ["confusion", "risk-coverage", "slices"]) {
    get(`plot-${name}`)?.classList.add("replaced");
  }
  clear();
})();

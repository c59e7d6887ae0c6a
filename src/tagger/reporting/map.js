"use strict";
// Search and details of the map. Without this script the map is there, with its colours and titles.
(() => {
  const MOST = 50;
  const map = document.querySelector(".map");
  const dots = [...map.querySelectorAll("circle")];
  const rows = JSON.parse(document.getElementById("map-rows").textContent);
  const search = document.getElementById("map-search");
  const count = document.getElementById("map-count");
  const list = document.getElementById("map-list");
  const texts = rows.map((row) =>
    [row.id, row.title, row.description, row.true, row.predicted].join("\n").toLocaleLowerCase());
  document.getElementById("map-tools").hidden = false;

  const line = (number) => {
    const row = rows[number];
    const cells = document.createElement("tr");
    const wrong = row.true !== row.predicted;
    const values = [row.title || row.id, row.description, row.true,
      wrong ? row.predicted : "", row.probability.toFixed(3)];
    for (const value of values) {
      const cell = document.createElement("td");
      cell.textContent = value;
      cells.append(cell);
    }
    cells.children[0].className = cells.children[1].className = "prose";
    cells.addEventListener("mouseenter", () => dots[number].classList.add("marked"));
    cells.addEventListener("mouseleave", () => dots[number].classList.remove("marked"));
    return cells;
  };

  const show = (numbers) => {
    list.tBodies[0].replaceChildren(...numbers.slice(0, MOST).map(line));
    list.hidden = numbers.length === 0;
  };

  const find = () => {
    const words = search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    map.classList.toggle("searching", words.length > 0);
    if (words.length === 0) {
      dots.forEach((dot) => dot.classList.remove("faint"));
      count.textContent = "";
      show([]);
      return;
    }
    const found = [];
    texts.forEach((text, number) => {
      const fits = words.every((word) => text.includes(word));
      dots[number].classList.toggle("faint", !fits);
      if (fits) found.push(number);
    });
    count.textContent = `${found.length} of ${rows.length} rows`
      + (found.length > MOST ? `, the first ${MOST} below` : "");
    show(found);
  };

  search.addEventListener("input", find);
  dots.forEach((dot, number) => dot.addEventListener("click", () => {
    search.value = "";
    find();
    dots.forEach((other) => other.classList.toggle("marked", other === dot));
    show([number]);
  }));
})();

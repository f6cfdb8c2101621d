"use strict";
// The page is complete without this script, which adds the toggle, the search and the sorting.
{
  const root = document.documentElement, button = document.getElementById("theme");
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("understudy-theme", value);
      return localStorage.getItem("understudy-theme");
    } catch {
      return null;  // pages from a disk may have no memory
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const relabel = () => { button.textContent = dark() ? "Light" : "Dark"; };
  const theme = remembered();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; remembered(root.dataset.theme); relabel(); });
  system.addEventListener("change", relabel);
  button.hidden = false;
  relabel();
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  // Figures are written for people: 1,204 and −0.3 and 98 % and 1.4M and < 0.001, and – where nothing is known.
  const times = { k: 1e3, M: 1e6, B: 1e9 };
  const figure = (text) => text.replaceAll(",", "").replace("−", "-").replace(/^–$/, "").replace(/ %$/, "").replace(/^< /, "")
    .replace(/^([\d.]+)([kMB])$/, (_, number, unit) => number * times[unit]);
  const key = (row, place) => row.cells[place].dataset.value ?? figure(row.cells[place].textContent.trim());
  heads.forEach((head, place) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numbers = [...body.rows].every((row) => key(row, place) === "" || !isNaN(key(row, place)));
      // The largest number first, and the alphabet from its beginning; again turns it round.
      const down = head.ariaSort ? head.ariaSort === "ascending" : numbers;
      for (const heading of heads) heading.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      const compare = (a, b) => {
        const [left, right] = [key(a, place), key(b, place)];
        if (!numbers) return left.localeCompare(right);
        return (left === "" ? -Infinity : Number(left)) - (right === "" ? -Infinity : Number(right));
      };
      body.append(...[...body.rows].sort((a, b) => down ? compare(b, a) : compare(a, b)));
    });
  });
}
for (const controls of document.querySelectorAll(".controls[data-for]")) {
  const rows = [...document.getElementById(controls.dataset.for).tBodies[0].rows];
  const search = controls.querySelector("input"), kind = controls.querySelector("select"), output = controls.querySelector("output");
  const words = rows.map((row) => row.textContent.toLowerCase());
  const choose = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, place) => {
      row.hidden = !words[place].includes(wanted) || Boolean(kind?.value && row.dataset.kind !== kind.value);
      shown += !row.hidden;
    });
    output.textContent = `${shown} of ${rows.length}`;
  };
  search.addEventListener("input", choose);
  kind?.addEventListener("change", choose);
  controls.hidden = false;
  choose();
}

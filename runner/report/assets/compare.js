// The compare page: two runs or groups out of `window.REPORT`. The address keeps the choice: #a=group:…&b=run:…
"use strict";
(() => {
  const {metrics, keys, groups, alone} = window.REPORT;
  const LEAST = 3;
  const entries = new Map();
  for (const group of groups) {
    const seeds = group.runs.length === 1 ? "1 seed" : `${group.runs.length} seeds`;
    entries.set(`group:${group.id}`, {...group, kind: "Groups", text: `${group.label} (${seeds})`});
  }
  for (const holder of [...groups, ...alone]) {
    for (const run of holder.runs) {
      const text = `${holder.label} seed=${run.seed} · ${run.id.slice(0, 8)}`;
      entries.set(`run:${run.id}`, {...holder, runs: [run], kind: "Runs", text});
    }
  }
  const searchable = new Map([...entries].map(([name, entry]) => [name, entry.text.toLowerCase()]));
  const chosen = {a: null, b: null};

  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text instanceof Node) made.append(text);
    else if (text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const fillTable = (id, headings, rows, empty) => {
    const head = element("thead", null);
    const line = element("tr", null);
    headings.forEach(([text, kind]) => line.append(element("th", text, {scope: "col", ...(kind && {class: kind})})));
    head.append(line);
    const body = element("tbody", null);
    for (const row of rows) {
      const made = element("tr", null);
      row.forEach((cell, index) => {
        const kind = headings[index][1];
        made.append(element(index ? "td" : "th", cell, {...(index ? {} : {scope: "row"}), ...(kind && {class: kind})}));
      });
      body.append(made);
    }
    if (!rows.length) {
      const made = element("tr", null);
      made.append(element("td", empty, {colspan: headings.length}));
      body.append(made);
    }
    document.getElementById(id).replaceChildren(head, body);
  };
  const number = (value) => (value === null || Number.isNaN(value) ? "–" : String(Number(value.toPrecision(6))));
  const small = (value) => (value === null ? "–" : value === 0 ? "0" : value < 1e-4 ? value.toExponential(2) : value.toPrecision(3));
  const code = (text) => element("code", text);

  const options = (side) => {
    const select = document.getElementById(`choice-${side}`);
    const words = document.getElementById(`search-${side}`).value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = new Map();
    let count = 0;
    for (const [name, entry] of entries) {
      const fits = words.every((word) => searchable.get(name).includes(word));
      if (!fits && name !== chosen[side]) continue;
      count += fits;
      if (!kinds.has(entry.kind)) kinds.set(entry.kind, element("optgroup", null, {label: entry.kind}));
      kinds.get(entry.kind).append(element("option", entry.text, {value: name}));
    }
    select.replaceChildren(...kinds.values());
    select.value = chosen[side] ?? "";
    document.getElementById(`found-${side}`).textContent = words.length ? `${count} found` : "";
  };
  const values = (entry, index) =>
    new Map(entry.runs.filter((run) => run.metrics[index] !== null).map((run) => [run.seed, run.metrics[index]]));
  const meanStd = (found) => {
    const all = [...found.values()];
    if (!all.length) return "–";
    const {mean, std} = window.Statistics;
    return all.length === 1 ? number(all[0]) : `${number(mean(all))} ± ${small(std(all))} (${all.length})`;
  };
  const show = () => {
    const [a, b] = [entries.get(chosen.a), entries.get(chosen.b)];
    if (!a || !b) return;
    const differing = keys.map((key, index) => [key, a.config[index], b.config[index]]).filter(([, x, y]) => x !== y);
    fillTable(
      "config",
      [["field"], ["A"], ["B"]],
      differing.map(([key, x, y]) => [code(key), code(x ?? "–"), code(y ?? "–")]),
      "The same config, but for the seed.",
    );
    const rows = [];
    metrics.forEach((name, index) => {
      const [x, y] = [values(a, index), values(b, index)];
      if (!x.size && !y.size) return;
      const seeds = [...x.keys()].filter((seed) => y.has(seed));
      const test =
        seeds.length >= LEAST ? window.Statistics.pairedTest(seeds.map((seed) => x.get(seed) - y.get(seed))) : null;
      const average = (found) => window.Statistics.mean([...found.values()]);
      const difference = x.size && y.size ? number(average(x) - average(y)) : "–";
      const tested = test
        ? [number(test.mean), test.t === null ? "–" : test.t.toFixed(3), small(test.p), String(test.n)]
        : ["–", "–", "–", String(seeds.length)];
      rows.push([code(name), meanStd(x), meanStd(y), difference, ...tested]);
    });
    fillTable(
      "metrics",
      [
        ["metric"],
        ["A", "number"],
        ["B", "number"],
        ["A − B", "number"],
        ["paired A − B", "number"],
        ["t", "number"],
        ["p", "number"],
        ["common seeds", "number"],
      ],
      rows,
      "No metrics.",
    );
    const runs = [["A", a], ["B", b]].flatMap(([side, entry]) =>
      entry.runs.map((run) => [side, String(run.seed), element("a", run.id, {href: `runs/${run.page}.html`})]),
    );
    fillTable("compared", [["side"], ["seed", "number"], ["run"]], runs, "None.");
    document.title = `${a.text} and ${b.text} · runner report`;
  };
  const choose = (side, name) => {
    chosen[side] = entries.has(name) ? name : chosen[side];
    options(side);
  };
  const fromAddress = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const names = [...entries.keys()];
    for (const side of ["a", "b"]) {
      choose(side, asked.get(side));
    }
    if (!chosen.a) choose("a", names[0]);
    if (!chosen.b) choose("b", names.find((name) => name !== chosen.a) ?? names[0]);
    show();
  };
  const toAddress = () => {
    history.replaceState(null, "", `#a=${encodeURIComponent(chosen.a)}&b=${encodeURIComponent(chosen.b)}`);
    show();
  };
  for (const side of ["a", "b"]) {
    document.getElementById(`choice-${side}`).addEventListener("change", (event) => {
      chosen[side] = event.target.value;
      toAddress();
    });
    document.getElementById(`search-${side}`).addEventListener("input", () => options(side));
  }
  document.getElementById("swap").addEventListener("click", () => {
    [chosen.a, chosen.b] = [chosen.b, chosen.a];
    options("a");
    options("b");
    toAddress();
  });
  addEventListener("hashchange", fromAddress);
  if (entries.size) fromAddress();
})();

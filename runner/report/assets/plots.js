// Draws the figures of a page from its JSON, with Plotly: curves with bands, results against costs.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const THEMES = {
    light: {ink: "#1b2026", grid: "#d9dfe5", paper: "#ffffff"},
    dark: {ink: "#e6eaee", grid: "#38424c", paper: "#14181c"},
  };
  const COLOURS = ["#3b82d6", "#e8743b", "#2ea371", "#b86bd6", "#d6a21e", "#d64f6c", "#27a5b5", "#8a8f98", "#8c6d4f", "#6d7bea"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const SYMBOLS = ["circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star", "pentagon", "hexagon"];
  const ALL = "all (last loops)";
  const percent = (name) => name.split("/").some((part) => /_(acc|auc)$/.test(part));
  const factor = (name) => (percent(name) ? 100 : 1);
  const axis = (name) => (percent(name) ? `${name} (%)` : name);
  const family = (metric) => metric.split("/").at(-1);
  const loop = (metric) => metric.split("/").slice(0, -1).join("/");
  const unique = (values) => [...new Set(values)];
  const number = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(4))));
  const scaled = (values, by) => values.map((value) => (value === null ? null : value * by));
  const rgba = (hex, alpha) => `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${alpha})`;
  // Plotly reads a few HTML tags in texts; names from the store are to be text.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  const layout = (theme, shown, x, y) => {
    const line = {gridcolor: theme.grid, zerolinecolor: theme.grid, linecolor: theme.grid, automargin: true};
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: {color: theme.ink, family: "system-ui, sans-serif", size: 13},
      margin: {l: 56, r: 12, t: 12, b: 48},
      height: 380 + 22 * Math.ceil(shown / 2),
      hovermode: "closest",
      hoverlabel: {bgcolor: theme.paper, font: {color: theme.ink}},
      showlegend: true,
      legend: {orientation: "h", yref: "container", y: 0, yanchor: "bottom"},
      xaxis: {...line, ...x},
      yaxis: {...line, ...y},
    };
  };

  const curves = {
    choices(mine) {
      const {series} = mine;
      const rows = unique(series.map(({row}) => row));
      const row = {name: "row", label: "Row", options: () => rows, initial: (found) => found[0]};
      const metric = {
        name: "metric",
        label: "Metric",
        options: (at) => unique(series.filter((one) => at.row === undefined || one.row === at.row).map((one) => family(one.metric))),
        initial: (found) => found.find((name) => name.startsWith("val_")) ?? found[0],
      };
      const column = {
        name: "column",
        label: "Of",
        options: (at) => [ALL, ...unique(chosen(series, at).map((one) => one.column))],
        initial: () => ALL,
      };
      return rows.length > 1 || rows[0] ? [row, metric, column] : [metric];
    },
    figure(mine, at, theme) {
      let found = chosen(mine.series, at);
      if (at.column === ALL) found = [...new Map(found.map((one) => [one.column, one])).values()];
      else if (at.column) found = found.filter((one) => one.column === at.column);
      const by = factor(at.metric);
      const traces = [];
      const lines = [];
      found.forEach((one, index) => {
        const {x, mean, std, n} = data.curves[one.curve];
        const colour = COLOURS[index % COLOURS.length];
        const name = plain([one.column, loop(one.metric)].filter(Boolean).join(", "));
        const [y, spread] = [scaled(mean, by), scaled(std, by)];
        const kept = x.map((_, place) => place).filter((place) => spread[place] !== null && y[place] !== null);
        if (kept.length) {
          const back = [...kept].reverse();
          traces.push({
            x: [...kept, ...back].map((place) => x[place]),
            y: [...kept.map((place) => y[place] + spread[place]), ...back.map((place) => y[place] - spread[place])],
            fill: "toself",
            fillcolor: rgba(colour, 0.16),
            line: {width: 0},
            hoverinfo: "skip",
            showlegend: false,
            legendgroup: String(index),
            mode: "lines",
            type: "scatter",
          });
        }
        traces.push({
          x,
          y,
          name,
          legendgroup: String(index),
          mode: "lines",
          type: "scatter",
          line: {color: colour, width: 2, dash: DASHES[Math.floor(index / COLOURS.length) % DASHES.length]},
          text: x.map((_, place) => `${number(y[place])} ± ${number(spread[place])}, n = ${n[place]}`),
          hovertemplate: `%{text}<br>epoch %{x}<extra>${name}</extra>`,
        });
        const there = y.filter((value) => value !== null);
        lines.push([
          [one.column, loop(one.metric)].filter(Boolean).join(", "),
          String(Math.max(...n)),
          String(x.at(-1)),
          number(y[0]),
          number(Math.min(...there)),
          number(Math.max(...there)),
          number(y.at(-1)),
        ]);
      });
      const subject = [axis(at.metric), at.row].filter(Boolean).join(", ");
      return {
        data: traces,
        layout: layout(theme, found.length, {title: {text: "epoch", standoff: 8}}, {title: {text: plain(axis(at.metric))}}),
        headings: ["curve", "seeds", "last epoch", "first", "least", "most", "last"],
        lines,
        label: `Line plot over epochs of ${subject}. ${lines.map((line) => `${line[0]}: from ${line[3]} to ${line[6]}`).join("; ")}.`,
        name: `curves ${subject}`,
      };
    },
  };
  const chosen = (series, at) =>
    series.filter((one) => (at.row === undefined || one.row === at.row) && family(one.metric) === at.metric);

  const costs = {
    choices(mine) {
      const there = (names) => names.filter((name) => mine.points.some((point) => name in point.values));
      return [
        {name: "result", label: "Result", options: () => there(data.results), initial: (found) => found.find(percent) ?? found[0]},
        {name: "cost", label: "Cost", options: () => there(data.costs), initial: (found) => found.find((name) => name === "fit_seconds") ?? found[0]},
      ];
    },
    figure(mine, at, theme) {
      const found = mine.points.filter(({values}) => at.result in values && at.cost in values);
      const by = factor(at.result);
      const traces = unique(found.map(({column}) => column)).map((column, index) => {
        const points = found.filter((point) => point.column === column);
        const colour = COLOURS[index % COLOURS.length];
        const y = points.map(({values}) => values[at.result]);
        return {
          name: plain(column),
          mode: "markers",
          type: "scatter",
          x: points.map(({values}) => values[at.cost][0]),
          y: y.map(([mean]) => mean * by),
          error_y: {type: "data", array: y.map(([, std]) => (std ?? 0) * by), color: rgba(colour, 0.5), thickness: 1.2, width: 3},
          marker: {color: colour, size: 10, symbol: SYMBOLS[index % SYMBOLS.length]},
          text: points.map(({row, values}) => `${plain(row)}, n = ${values[at.cost][2]}`),
          hovertemplate: `%{text}<br>%{y:.4g} at %{x:.4g}<extra>${plain(column)}</extra>`,
        };
      });
      const range = found.map(({values}) => values[at.cost][0]).filter((value) => value > 0);
      const log = range.length === found.length && Math.max(...range) > 30 * Math.min(...range);
      const lines = found.map(({row, column, values}) => [
        row,
        column,
        `${number(values[at.result][0] * by)} ± ${number(values[at.result][1] === null ? null : values[at.result][1] * by)}`,
        number(values[at.cost][0]),
        String(values[at.cost][2]),
      ]);
      return {
        data: traces,
        layout: layout(theme, traces.length, {title: {text: plain(at.cost), standoff: 8}, type: log ? "log" : "linear"}, {title: {text: plain(axis(at.result))}}),
        headings: ["row", "column", axis(at.result), at.cost, "n"],
        lines,
        label: `Scatter plot of ${axis(at.result)} against ${at.cost}, ${lines.length} points. Its figures stand in the table below.`,
        name: `${at.result} against ${at.cost}`,
      };
    },
  };

  const ofStudies = window.studyKinds?.({data, layout, axis, factor, number, plain, COLOURS}) ?? {};

  const fillTable = (table, headings, lines) => {
    const row = (cells, tags) => {
      const made = document.createElement("tr");
      cells.forEach((text, index) => {
        const cell = document.createElement(tags(index));
        cell.textContent = text;
        if (cell.tagName === "TH") cell.scope = tags(1) === "th" ? "col" : "row";
        made.append(cell);
      });
      return made;
    };
    const [head, body] = [document.createElement("thead"), document.createElement("tbody")];
    head.append(row(headings, () => "th"));
    lines.forEach((line) => body.append(row(line, (index) => (index ? "td" : "th"))));
    table.replaceChildren(head, body);
  };

  const set = (plot) => {
    const {kind, table} = plot.dataset;
    const mine = {
      series: data.series.filter((one) => one.table === table),
      points: (data.points ?? []).filter((one) => one.table === table),
    };
    const draws = {curves, costs, ...ofStudies}[kind];
    const at = {};
    const selects = draws.choices(mine).map((choice) => {
      const label = document.createElement("label");
      const select = document.createElement("select");
      label.append(choice.label, select);
      plot.querySelector(".choices").append(label);
      select.addEventListener("change", () => {
        at[choice.name] = select.value;
        refresh();
      });
      return {choice, select};
    });
    const canvas = plot.querySelector(".canvas");
    let current = null;
    const theme = () => (dark.matches && !matchMedia("print").matches ? THEMES.dark : THEMES.light);
    const draw = () => {
      current = draws.figure(mine, at, theme());
      Plotly.react(canvas, current.data, current.layout, {displayModeBar: false, responsive: true});
      canvas.setAttribute("aria-label", current.label);
      fillTable(plot.querySelector(".figures"), current.headings, current.lines);
    };
    const refresh = () => {
      for (const {choice, select} of selects) {
        const options = choice.options(at);
        if (!options.includes(at[choice.name])) at[choice.name] = choice.initial(options);
        select.replaceChildren(...options.map((text) => new Option(text, text)));
        select.value = at[choice.name];
      }
      draw();
    };
    plot.querySelector(".svg").addEventListener("click", () => {
      const {data: traces, layout: light, name} = draws.figure(mine, at, THEMES.light);
      const filename = name.replace(/[^\w-]+/g, "-");
      Plotly.downloadImage({data: traces, layout: light}, {format: "svg", width: 800, height: 500, filename});
    });
    return {refresh, redraw: () => current && draw(), drawn: () => current !== null};
  };

  // Drawn when they come into view, so that a page with many opens at once.
  const plots = new Map([...document.querySelectorAll("figure.plot")].map((plot) => [plot, set(plot)]));
  const watcher = new IntersectionObserver(
    (seen) => {
      for (const {target, isIntersecting} of seen) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        if (!plots.get(target).drawn()) plots.get(target).refresh();
      }
    },
    {rootMargin: "400px"},
  );
  for (const plot of plots.keys()) watcher.observe(plot);
  const redraw = () => plots.forEach((plot) => plot.redraw());
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => plots.forEach((plot) => (plot.drawn() ? plot.redraw() : plot.refresh())));
  addEventListener("afterprint", redraw);
})();

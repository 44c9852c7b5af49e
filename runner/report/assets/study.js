// The figures of a study, for plots.js: objective over trials, Pareto front, parallel coordinates, importances, validations.
"use strict";
window.studyKinds = ({data, layout, axis, factor, number, plain, COLOURS}) => {
  const {trials, axes, objectives, importances} = data;
  const names = (objectives ?? []).map(({name}) => name);
  const [GOOD, OTHER, FAINT] = [COLOURS[1], COLOURS[0], "#8a8f98"];
  const complete = (trials ?? []).filter(({state}) => state === "complete");
  const objective = {name: "objective", label: "Objective", options: () => names, initial: (found) => found[0]};
  const place = (at) => names.indexOf(at.objective);
  const value = (trial, which) => trial.values[which] * factor(names[which]);
  const told = (trial) => `trial ${trial.number}<br>${axes.map(({name}, index) => plain(`${name} ${short(trial.params[index])}`)).join("<br>")}`;
  const short = (param) => (typeof param === "number" ? number(param) : String(param));
  const text = (title) => ({title: {text: plain(title), standoff: 8}});

  const history = {
    choices: () => [objective],
    figure(mine, at, theme) {
      const which = place(at);
      const better = objectives[which].direction === "maximize" ? Math.max : Math.min;
      const y = complete.map((trial) => value(trial, which));
      const best = y.map((_, index) => y.slice(0, index + 1).reduce((one, other) => better(one, other)));
      const x = complete.map((trial) => trial.number);
      const traces = [
        {name: "trial", mode: "markers", type: "scatter", x, y, marker: {color: OTHER, size: 8}, text: complete.map(told), hovertemplate: "%{text}<br>%{y:.5g}<extra></extra>"},
        {name: "best so far", mode: "lines", type: "scatter", x, y: best, line: {color: GOOD, width: 2, shape: "hv"}, hovertemplate: "best so far %{y:.5g}<extra></extra>"},
      ];
      return {
        data: traces,
        layout: layout(theme, 2, text("trial"), text(axis(at.objective))),
        headings: ["trial", axis(at.objective), "best so far"],
        lines: x.map((trial, index) => [String(trial), number(y[index]), number(best[index])]),
        label: `${axis(at.objective)} of ${x.length} trials; best ${number(best.at(-1))}.`,
        name: `history ${at.objective}`,
      };
    },
  };

  const front = {
    choices() {
      const other = {name: "other", label: "Against", options: (at) => names.filter((name) => name !== at.objective), initial: (found) => found[0]};
      return [objective, other];
    },
    figure(mine, at, theme) {
      const [which, against] = [place(at), names.indexOf(at.other)];
      const trace = (name, some, colour, line) => ({
        name,
        mode: line ? "lines+markers" : "markers",
        type: "scatter",
        x: some.map((trial) => value(trial, against)),
        y: some.map((trial) => value(trial, which)),
        marker: {color: colour, size: line ? 10 : 7},
        line: {color: colour, width: 1, dash: "dot"},
        text: some.map(told),
        hovertemplate: "%{text}<br>%{y:.5g} at %{x:.5g}<extra></extra>",
      });
      const best = complete.filter((trial) => trial.best).sort((one, two) => value(one, against) - value(two, against));
      return {
        data: [trace("other trials", complete.filter((trial) => !trial.best), FAINT, false), trace("Pareto front", best, GOOD, true)],
        layout: layout(theme, 2, text(axis(at.other)), text(axis(at.objective))),
        headings: ["trial of the front", axis(at.objective), axis(at.other)],
        lines: best.map((trial) => [String(trial.number), number(value(trial, which)), number(value(trial, against))]),
        label: `${best.length} of ${complete.length} trials are on the front of ${names.join(", ")}.`,
        name: `front ${at.objective} ${at.other}`,
      };
    },
  };

  // Lines of their own: Plotly's parallel coordinates compile code, which the page's policy forbids.
  const upright = (label, values, log) => {
    if (!values.every((one) => typeof one === "number")) {
      const kinds = [...new Set(values.map(String))].sort((one, two) => one.localeCompare(two, "en", {numeric: true}));
      const at = (kind) => (kinds.length > 1 ? kinds.indexOf(String(kind)) / (kinds.length - 1) : 0.5);
      return {label, heights: values.map(at), ticks: kinds.map((kind) => [at(kind), kind])};
    }
    const scale = log ? Math.log10 : (one) => one;
    const [low, high] = [Math.min(...values.map(scale)), Math.max(...values.map(scale))];
    const back = (height) => low + height * (high - low);
    const heights = values.map((one) => (high > low ? (scale(one) - low) / (high - low) : 0.5));
    const ticks = high > low ? [0, 0.5, 1].map((height) => [height, number(log ? 10 ** back(height) : back(height))]) : [[0.5, number(values[0])]];
    return {label: log ? `${label} (log)` : label, heights, ticks};
  };
  const mixed = (share) => {
    const [from, to] = [[139, 150, 165], [232, 96, 30]];
    return `rgb(${from.map((one, index) => Math.round(one + share * (to[index] - one))).join(",")})`;
  };
  const parallel = {
    choices: () => [objective],
    figure(mine, at, theme) {
      const which = place(at);
      const y = complete.map((trial) => value(trial, which));
      const uprights = [
        ...axes.map(({name, log}, index) => upright(name, complete.map(({params}) => params[index]), log)),
        upright(axis(at.objective), y, false),
      ];
      const good = uprights.at(-1).heights.map((height) => (objectives[which].direction === "maximize" ? height : 1 - height));
      const order = complete.map((_, index) => index).sort((one, two) => good[one] - good[two]); // the best on top
      const traces = order.map((index) => ({
        mode: "lines+markers",
        type: "scatter",
        x: uprights.map((_, along) => along),
        y: uprights.map(({heights}) => heights[index]),
        line: {color: mixed(good[index]), width: complete[index].best ? 3 : 1.2},
        marker: {color: mixed(good[index]), size: 4},
        text: uprights.map(() => `${told(complete[index])}<br>${plain(axis(at.objective))} ${number(y[index])}`),
        hovertemplate: "%{text}<extra></extra>",
      }));
      const made = layout(theme, 0, {}, {});
      const bare = {showgrid: false, zeroline: false};
      return {
        data: traces,
        layout: {
          ...made,
          margin: {...made.margin, l: 24, r: 64},
          showlegend: false,
          xaxis: {...made.xaxis, ...bare, tickvals: uprights.map((_, along) => along), ticktext: uprights.map(({label}) => plain(label)), range: [-0.15, uprights.length - 0.6]},
          yaxis: {...made.yaxis, ...bare, showticklabels: false, range: [-0.05, 1.05]},
          shapes: uprights.map((_, along) => ({type: "line", x0: along, x1: along, y0: 0, y1: 1, layer: "below", line: {color: theme.ink, width: 1}})),
          annotations: uprights.flatMap(({ticks}, along) =>
            ticks.map(([height, tick]) => ({x: along, y: height, text: plain(tick), showarrow: false, xanchor: "left", xshift: 6, bgcolor: theme.paper, opacity: 0.85, font: {size: 11, color: theme.ink}})),
          ),
        },
        headings: ["trial", axis(at.objective), ...axes.map(({name}) => name)],
        lines: [...order].reverse().map((index) => [String(complete[index].number), number(y[index]), ...complete[index].params.map(short)]),
        label: `Parallel coordinates of ${complete.length} trials over ${axes.map(({name}) => name).join(", ")}.`,
        name: `parallel coordinates ${at.objective}`,
      };
    },
  };

  const shares = {
    choices: () => [{...objective, options: () => names.filter((name) => name in importances)}],
    figure(mine, at, theme) {
      const found = Object.entries(importances[at.objective]).sort((one, two) => one[1] - two[1]);
      return {
        data: [{type: "bar", orientation: "h", x: found.map(([, share]) => share), y: found.map(([name]) => plain(name)), marker: {color: OTHER}, hovertemplate: "%{y}: %{x:.3f}<extra></extra>"}],
        layout: {...layout(theme, 0, text(`importance for ${at.objective}`), {}), showlegend: false},
        headings: ["parameter", "importance"],
        lines: [...found].reverse().map(([name, share]) => [name, number(share)]),
        label: `Importance of ${found.length} parameters for ${at.objective}.`,
        name: `importances ${at.objective}`,
      };
    },
  };

  const intermediate = {
    choices: () => [],
    figure(mine, at, theme) {
      const shown = trials.filter(({steps}) => steps.length);
      const by = factor(names[0]);
      const traces = shown.map((trial) => ({
        name: `trial ${trial.number}, ${trial.state}`,
        mode: "lines",
        type: "scatter",
        x: trial.steps.map(([step]) => step),
        y: trial.steps.map(([, one]) => one * by),
        line: {color: trial.best ? GOOD : trial.state === "complete" ? OTHER : FAINT, width: trial.best ? 3 : 1.2, dash: trial.state === "complete" ? "solid" : "dot"},
        text: trial.steps.map(() => told(trial)),
        hovertemplate: "%{text}<br>%{y:.5g} at epoch %{x}<extra></extra>",
      }));
      return {
        data: traces,
        layout: {...layout(theme, 0, text("epoch"), text(axis(names[0]))), showlegend: false},
        headings: ["trial", "state", "last epoch", "last value"],
        lines: shown.map(({number: trial, state, steps}) => [String(trial), state, String(steps.at(-1)[0]), number(steps.at(-1)[1] * by)]),
        label: `Validations of ${shown.length} trials; pruned and failed ones dotted.`,
        name: `intermediate ${names[0]}`,
      };
    },
  };
  return {history, front, parallel, importances: shares, intermediate};
};

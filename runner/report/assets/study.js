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

  const dimension = (label, values, log) => {
    if (values.every((one) => typeof one === "number")) {
      if (!log) return {label, values};
      const ends = [Math.min(...values), Math.max(...values)].map(Math.log10);
      const ticks = [0, 1, 2, 3, 4].map((step) => ends[0] + (step / 4) * (ends[1] - ends[0]));
      return {label: `${label} (log)`, values: values.map(Math.log10), tickvals: ticks, ticktext: ticks.map((tick) => (10 ** tick).toPrecision(2))};
    }
    const kinds = [...new Set(values.map(String))];
    return {label, values: values.map((one) => kinds.indexOf(String(one))), tickvals: kinds.map((_, index) => index), ticktext: kinds.map(plain)};
  };
  const parallel = {
    choices: () => [objective],
    figure(mine, at, theme) {
      const which = place(at);
      const y = complete.map((trial) => value(trial, which));
      const dimensions = [
        dimension(plain(axis(at.objective)), y, false),
        ...axes.map(({name, log}, index) => dimension(plain(name), complete.map(({params}) => params[index]), log)),
      ];
      const made = layout(theme, 0, {}, {});
      return {
        data: [{type: "parcoords", dimensions, line: {color: y, colorscale: "Viridis", showscale: true, reversescale: objectives[which].direction === "minimize"}, labelfont: {color: theme.ink}, tickfont: {color: theme.ink}}],
        layout: {...made, margin: {l: 80, r: 60, t: 60, b: 30}, showlegend: false},
        headings: ["trial", axis(at.objective), ...axes.map(({name}) => name)],
        lines: complete.map((trial, index) => [String(trial.number), number(y[index]), ...trial.params.map(short)]),
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

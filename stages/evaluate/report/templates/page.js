// Draws every plot at its available width in the colours of the page's theme, and redraws it when
// either of them changes.
(function () {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const NUMBERS = 62; // pixels to the right of a panel, for the value of each row
  const LETTER = 7; // approximate width of a letter in pixels
  const ERRORS = 1; // Vega's log level for errors only

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    const text = { labelColor: colour("muted"), titleColor: colour("muted"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 };
    return {
      background: "transparent",
      font: "system-ui, sans-serif",
      view: { stroke: null },
      axis: { ...text, gridColor: colour("line"), domainColor: colour("line"), tickColor: colour("line") },
      header: { labelColor: colour("text"), labelFontSize: 13 },
      text: { color: colour("text") },
      rule: { color: colour("muted") },
      style: { inverse: { color: colour("paper"), fill: colour("paper") } },
      range: {
        category: [colour("tuned"), colour("best"), colour("other"), colour("worse")],
        ramp: [colour("shade"), colour("tuned")],
        heatmap: [colour("shade"), colour("tuned")],
      },
    };
  }

  // A panel gets the width that its labels leave. The labels get at most two fifths of a narrow screen.
  function fitted(spec, width) {
    delete spec.$schema; // it names the older version of DVC's page
    spec.config = theme();
    if (!spec.spec) {
      return { ...spec, width: "container", autosize: { type: "fit", contains: "padding" } };
    }
    const { x, y } = spec.spec.encoding;
    const name = x ? "target" : "label";
    const longest = Math.max(...spec.data.values.map((row) => row[name].length));
    const labels = Math.min(Math.round(longest * LETTER) + 14, Math.round(width * 0.4), 260);
    y.axis.labelLimit = labels - 12;
    spec.config.axisY = { minExtent: labels, maxExtent: labels };
    const room = width - labels - NUMBERS;
    if (x) {
      const cells = 1 + Math.max(...spec.data.values.map((row) => row.column));
      spec.spec.width = Math.max(22 * cells, Math.min(room, 48 * cells)); // scrolls if the cells would be too small
    } else {
      spec.spec.width = room;
      if (room < 260) spec.spec.layer[0].encoding.x.axis.tickCount = 3;
    }
    return spec;
  }

  function draw(figure) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const target = figure.querySelector(".canvas");
    const options = { actions: false, renderer: "svg", logLevel: ERRORS, tooltip: { theme: dark.matches ? "dark" : "light" } };
    return vegaEmbed(target, fitted(spec, target.clientWidth), options);
  }

  const figures = [...document.querySelectorAll("figure.plot")];
  const drawAll = () => Promise.all(figures.map(draw));
  let width = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // the address bar of a phone changes only the height
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  });
  dark.addEventListener("change", drawAll);
  drawAll().then(() => document.documentElement.classList.add("drawn"));
})();

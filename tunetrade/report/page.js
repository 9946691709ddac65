"use strict";
(() => {
  const root = document.documentElement;
  const store = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const state = { drawn: 0, failed: [] };
  window.tunetrade = state;

  // Plotly is inflated when the first chart comes into view.
  let library;
  function plotly() {
    library ??= (async () => {
      const node = document.getElementById("plotly");
      const packed = atob(node.textContent);
      const bytes = new Uint8Array(packed.length);
      for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      node.remove();
      return window.Plotly;
    })();
    return library;
  }

  // "@name/0.2" is a CSS variable with an alpha, "$key" a shared array.
  function colour(text, sheet) {
    const [name, alpha] = text.slice(1).split("/");
    const value = sheet.getPropertyValue(`--${name}`).trim();
    if (!alpha) return value;
    const short = value.length === 4 ? value.replace(/[0-9a-f]/gi, "$&$&") : value;
    const parts = [1, 3, 5].map((at) => parseInt(short.slice(at, at + 2), 16));
    return `rgba(${parts.join(",")},${alpha})`;
  }
  const COLOURS = new Set(["color", "fillcolor", "bgcolor", "bordercolor"]);
  function resolved(value, key, sheet) {
    if (Array.isArray(value)) {
      if (key === "colorscale") return value.map(([at, name]) => [at, colour(name, sheet)]);
      return typeof value[0] === "object" ? value.map((item) => resolved(item, key, sheet)) : value;
    }
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, resolved(item, name, sheet)]));
    }
    if (typeof value !== "string") return value;
    if (value[0] === "@" && COLOURS.has(key)) return colour(value, sheet);
    if (value[0] === "$" && (key === "x" || key === "y")) return store.arrays[value.slice(1)];
    return value;
  }

  function axis(given, extra) {
    return { gridcolor: extra.grid, zerolinecolor: extra.grid, linecolor: extra.muted, automargin: true, zeroline: false,
      tickfont: { color: extra.muted }, exponentformat: given?.type === "log" ? "SI" : "none", ...given, title: { font: { color: extra.ink, size: 12 }, standoff: 8, ...given?.title } };
  }
  function layoutOf(spec, width, sheet) {
    const extra = Object.fromEntries(["grid", "muted", "ink", "paper", "panel"].map((n) => [n, sheet.getPropertyValue(`--${n}`).trim()]));
    const own = resolved(spec.l, "", sheet);
    const names = new Set(spec.d.filter((t) => t.showlegend !== false && t.type !== "heatmap" && t.visible !== false).map((t) => t.name));
    const legends = names.size > 1;
    const narrow = width < 720;
    const rows = legends && narrow ? Math.ceil(names.size / Math.max(1, Math.floor(width / 125))) : 0;
    const below = own.xaxis?.title?.text ? 46 : 30;
    const made = {
      ...own, height: spec.h + 19 * rows, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: extra.ink },
      margin: { l: 52, r: 12, t: 26, b: below + 19 * rows, ...own.margin, ...(rows ? { b: below + 19 * rows } : {}) },
      hovermode: "closest", hoverlabel: { bgcolor: extra.panel, bordercolor: extra.muted, font: { color: extra.ink } },
      showlegend: legends, modebar: { bgcolor: "rgba(0,0,0,0)", color: extra.muted, activecolor: extra.ink }, dragmode: touch ? false : "zoom",
      legend: narrow
        ? { orientation: "h", x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom", entrywidth: 115, entrywidthmode: "pixels", font: { size: 11 }, tracegroupgap: 0 }
        : { font: { size: 12 }, tracegroupgap: 0, itemwidth: 30 },
    };
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(own).filter((k) => /^[xy]axis/.test(k))])) made[name] = axis(own[name], extra);
    return made;
  }

  async function draw(box) {
    if (box.dataset.state) return;
    box.dataset.state = "drawing";
    try {
      const library = await plotly();
      await paint(library, box, library.newPlot);
      box.dataset.state = "drawn";
      state.drawn += 1;
    } catch (fault) {
      box.dataset.state = "failed";
      box.textContent = "This browser cannot draw the chart; its figures are in the tables.";
      state.failed.push(`${box.dataset.chart}: ${fault}`);
    }
  }
  function paint(library, box, how) {
    const spec = store.charts[box.dataset.chart];
    const sheet = getComputedStyle(root);
    const layout = layoutOf(spec, box.clientWidth, sheet);
    box.style.height = `${layout.height}px`;
    return how(box, resolved(spec.d, "", sheet), layout, { displaylogo: false, responsive: true,
      displayModeBar: touch ? false : "hover", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] });
  }
  const boxes = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  boxes.forEach((box) => seen.observe(box));
  // Ready before anybody has scrolled; a fault comes back when a chart is drawn.
  if (boxes.length) (window.requestIdleCallback ?? setTimeout)(() => plotly().catch(() => {}));

  // Every chart of every route, for tests and for printing.
  state.drawAll = async () => {
    for (const route of routes) {
      show(route);
      for (const box of route.querySelectorAll(".plot")) await draw(box);
    }
    return { drawn: state.drawn, charts: boxes.length, failed: state.failed };
  };

  // Light and dark.
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  function themed() {
    if (button) button.textContent = isDark() ? "Light" : "Dark";
    if (window.Plotly) for (const box of boxes) if (box.dataset.state === "drawn") paint(window.Plotly, box, window.Plotly.react);
  }
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("tunetrade-theme", root.dataset.theme); } catch { /* a file may not be allowed to */ }
      themed();
    });
  }
  try { root.dataset.theme = localStorage.getItem("tunetrade-theme") ?? ""; } catch { /* as above */ }
  if (!root.dataset.theme) delete root.dataset.theme;
  dark.addEventListener("change", themed);
  themed();

  // Tables sort by a click or by Enter and Space on a heading.
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.append(...head.childNodes);
      head.append(sorter);
      sorter.addEventListener("click", () => {
        const down = head.ariaSort === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.ariaSort = down ? "descending" : "ascending";
        const figures = [...body.rows].some((row) => row.cells[column]?.dataset.v !== undefined);
        const key = (row) => (figures ? parseFloat(row.cells[column]?.dataset.v) : row.cells[column]?.textContent ?? "");
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (!figures) return (down ? -1 : 1) * x.localeCompare(y, "en", { numeric: true });
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return down ? y - x : x - y;
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }

  // Routes: #method-lora shows one part of the page.
  const routes = [...document.querySelectorAll(".route")];
  const links = [...document.querySelectorAll("nav a")];
  function show(route) {
    routes.forEach((other) => { other.hidden = other !== route; });
    links.forEach((link) => {
      if (link.hash === `#${route.id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
  }
  function go() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const route = target?.closest(".route") ?? routes[0];
    if (route) show(route);
    if (target && target !== route) target.scrollIntoView();
    else if (target) window.scrollTo(0, 0);
  }
  addEventListener("hashchange", go);
  go();
})();

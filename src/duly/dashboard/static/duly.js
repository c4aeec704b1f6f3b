// What the pages do beside being read: figures as they change, lists anew, keys, questions. Without it all can be read,
// and every form works.
"use strict";
(() => {
  const doc = document.documentElement;
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.body.dataset.root || "/";
  doc.classList.replace("no-js", "js");

  // moments, by the store's clock

  const loaded = Number(document.body.dataset.now) || Date.now() / 1000;
  const began = performance.now();
  const now = () => loaded + (performance.now() - began) / 1000;
  const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

  function lasting(seconds) {
    const rest = Math.round(seconds);
    for (let i = 0; i < UNITS.length; i++) {
      const [unit, size] = UNITS[i];
      if (rest < size) continue;
      const [smallUnit, small] = UNITS[i + 1] || ["", 1];
      const second = smallUnit ? Math.floor((rest % size) / small) : 0;
      return `${Math.floor(rest / size)} ${unit}` + (second ? ` ${second} ${smallUnit}` : "");
    }
    return "0 s";
  }

  function relative(at, from) {
    if (Math.round(Math.abs(at - from)) === 0) return "now";
    return at > from ? `in ${lasting(at - from)}` : `${lasting(from - at)} ago`;
  }

  function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function tellTime() {
    if (document.hidden) return;
    const moment = now();
    for (const one of $$("time[data-at]")) write(one, relative(Number(one.dataset.at), moment));
  }
  setInterval(tellTime, 1000);

  // figures as they change

  function show(figures) {
    for (const one of $$("[data-live]")) {
      const value = figures[one.dataset.live];
      if (typeof value !== "number") continue;
      write(one, "hideZero" in one.dataset && value === 0 ? "" : value.toLocaleString("en-US"));
    }
    for (const one of $$("[data-alarm]")) one.classList.toggle("alarm", figures[one.dataset.alarm] > 0);
  }

  const state = $("[data-live-state]");
  let awaySince = null;
  let storeIsAway = false;

  function away(isAway) {
    if (isAway && awaySince === null) awaySince = now();
    if (!isAway) awaySince = null;
    const note = $("#away");
    if (note) {
      note.hidden = !isAway;
      if (isAway) write($("[data-away-since]", note), relative(awaySince, now()));
    }
  }

  let stream = null;

  function listen() {
    if (stream || !state || !window.EventSource) return;
    stream = new EventSource(`${root}live`);
    stream.addEventListener("overview", (event) => {
      state.dataset.state = "on";
      write(state, "live");
      if (storeIsAway) away(false);
      storeIsAway = false;
      show(JSON.parse(event.data));
    });
    stream.addEventListener("problem", () => {
      storeIsAway = true;
      away(true);
    });
    stream.onerror = () => {
      state.dataset.state = "off";
      write(state, "not live");
    };
  }

  function deafen() {
    if (stream) stream.close();
    stream = null;
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? deafen() : (listen(), tellTime())));
  window.addEventListener("pagehide", deafen);
  window.addEventListener("pageshow", () => document.hidden || listen());

  // lists anew, while nobody is in the middle of something

  const isBusy = (list) =>
    document.hidden ||
    $("dialog[open]") ||
    $(".pick:checked", list) ||
    (list.contains(document.activeElement) && document.activeElement !== list) ||
    !(window.getSelection()?.isCollapsed ?? true);

  let isAsking = false;

  async function refresh() {
    const list = $("#list[data-refresh]");
    if (!list || isAsking || isBusy(list) || !window.htmx) return;
    isAsking = true;
    try {
      await htmx.ajax("GET", location.pathname + location.search, {
        source: list, target: list, select: "#list", swap: "outerHTML",
      });
    } catch {
      away(true);
    } finally {
      isAsking = false;
      wait();
    }
  }

  let timer = 0;

  function wait() {
    clearTimeout(timer);
    const list = $("#list[data-refresh]");
    if (list) timer = setTimeout(() => refresh().finally(wait), (Number(list.dataset.refresh) || 2) * 1000);
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    if (target.id !== "list" || xhr.status !== 200) return;
    if (!xhr.responseText.includes('id="list"')) {
      event.detail.shouldSwap = false; // the session is over: the answer is the log-in
      location.reload();
    } else if (isBusy(target)) {
      event.detail.shouldSwap = false;
    }
  });
  // what was opened stays open, what was scrolled stays where it is
  let kept = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "list") return;
    kept = {
      open: $$("details", event.detail.target).map((one) => one.open),
      left: $$(".scroll, .pre", event.detail.target).map((one) => [one.scrollLeft, one.scrollTop]),
    };
  });
  document.addEventListener("htmx:afterSwap", () => {
    const list = $("#list");
    if (kept && list) {
      $$("details", list).forEach((one, i) => (one.open = kept.open[i] ?? one.open));
      $$(".scroll, .pre", list).forEach((one, i) => ([one.scrollLeft, one.scrollTop] = kept.left[i] ?? [0, 0]));
    }
    kept = null;
    away(false);
    tellTime();
    draw();
  });
  document.addEventListener("htmx:responseError", ({ detail }) => {
    if (detail.xhr.status >= 500) away(true);
    else if (detail.target && detail.target.id === "list") location.reload(); // it is gone, or the session is: the page says which
  });
  document.addEventListener("htmx:sendError", () => away(true));

  // graphs, of the figures in the table

  const plots = new Map();

  function colour(name) {
    const probe = document.createElement("i");
    probe.className = name;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  const shown = (value, unit) =>
    value === null || value === undefined ? "–"
    : unit !== "s" ? value.toLocaleString("en-US", { maximumFractionDigits: 1 })
    : value < 1 ? `${(value * 1000).toFixed(value < 0.1 ? 1 : 0)} ms` : `${value.toFixed(1)} s`;

  function draw() {
    const points = $("#points");
    if (!points || !window.uPlot) return;
    write($("#succeeded"), points.dataset.succeeded);
    const rows = $$("#points tbody tr").slice(1).reverse(); // the first one is not over yet
    for (const graph of $$("[data-graph]")) {
      const series = graph.dataset.graph.split(",").map((one) => one.split(":"));
      const number = (row, name) => (row.dataset[name] === "" ? null : Number(row.dataset[name]));
      const data = [rows.map((row) => Number(row.dataset.at)), ...series.map(([name]) => rows.map((row) => number(row, name)))];
      const old = plots.get(graph);
      if (old) old.setData(data);
      else plots.set(graph, plot(graph, series, data));
      tell(graph, series, data, data[0].length - 1);
    }
  }

  function tell(graph, series, data, index) {
    series.forEach(([name], i) => {
      const key = $(`[data-key="${name}"]`);
      if (key) write(key, shown(data[i + 1][index], graph.dataset.unit));
    });
  }

  function plot(graph, series, data) {
    const unit = graph.dataset.unit;
    const [muted, line] = [colour("muted"), colour("line")];
    const axis = { stroke: muted, font: "11px sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
    return new uPlot({
      width: graph.clientWidth, height: graph.clientHeight,
      legend: { show: false }, cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, unit === "s" ? 0.01 : 4)] } },
      axes: [
        { ...axis, space: 70, size: 26, values: (_, at) => at.map((one) => new Date(one * 1000).toTimeString().slice(0, 5)) },
        { ...axis, size: 52, space: 34, values: (_, values) => values.map((one) => shown(one, unit)) },
      ],
      series: [{}, ...series.map(([, name]) => ({ stroke: colour(name), width: 1.75, fill: fade(colour(name)), points: { show: false }, spanGaps: false }))],
      hooks: {
        setCursor: [(self) => tell(graph, series, self.data, self.cursor.idx ?? self.data[0].length - 1)],
      },
    }, data, graph);
  }

  const fade = (found) => found.replace(/^rgb\((.*)\)$/, "rgba($1, .09)");

  function redraw() {
    for (const one of plots.values()) one.destroy();
    plots.clear();
    draw();
  }
  let resizing = 0;
  window.addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(redraw, 120);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // light and dark

  const isDark = () => (doc.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const themeSwitch = $("[data-theme-switch]");

  function nameTheme() {
    if (themeSwitch) write(themeSwitch, isDark() ? "light" : "dark");
  }
  themeSwitch?.addEventListener("click", () => {
    doc.dataset.theme = isDark() ? "light" : "dark";
    document.cookie = `duly_theme=${doc.dataset.theme}; path=${root}; max-age=31536000; samesite=lax`;
    nameTheme();
    redraw();
  });
  nameTheme();

  // a question before what cannot be undone

  const ask = $("#ask");
  let asked = null;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-ask]");
    if (!button || !ask || (button.form && !button.form.reportValidity())) return;
    event.preventDefault();
    asked = button;
    write($("[data-ask-text]", ask), button.dataset.ask);
    write($("[data-ask-yes]", ask), button.textContent.replace("…", ""));
    $("[data-ask-yes]", ask).className = button.classList.contains("danger") ? "button danger main" : "button main";
    ask.showModal();
    $("[data-ask-no]", ask).focus();
  });
  $("[data-ask-no]")?.addEventListener("click", () => ask.close());
  $("[data-ask-yes]")?.addEventListener("click", () => {
    const { form, name, value } = asked;
    for (const [field, given] of [["confirmed", "yes"], [name, value]]) {
      const hidden = document.createElement("input");
      Object.assign(hidden, { type: "hidden", name: field, value: given });
      form.append(hidden);
    }
    ask.close();
    form.submit();
  });
  $("[data-close]")?.addEventListener("click", () => $("#help").close());
  $("[data-help]")?.addEventListener("click", () => $("#help").showModal());

  // choosing many

  function count(form) {
    const chosen = $$(".pick:checked", form).length;
    const hint = $("[data-chosen]", form);
    if (hint) write(hint, chosen ? `${chosen} chosen` : "Choose jobs to act on them");
    const all = $("[data-all]", form);
    if (all) {
      all.checked = chosen > 0 && chosen === $$(".pick", form).length;
      all.indeterminate = chosen > 0 && !all.checked;
    }
  }
  document.addEventListener("change", (event) => {
    const { target } = event;
    if (target.matches("[data-all]")) for (const one of $$(".pick", target.form)) one.checked = target.checked;
    if (target.matches("[data-all], .pick")) count(target.form);
    if (target.matches("[data-send]")) target.form.submit();
  });

  // the next moments of a rule, as it is typed

  const trial = $("[data-preview]");
  if (trial) {
    const form = trial.closest("form");
    let typing = 0;
    const look = () => {
      const given = new URLSearchParams(["kind", "rule", "zone"].map((name) => [name, form.elements[name].value]));
      if (given.get("rule")) htmx.ajax("GET", `${trial.dataset.preview}?${given}`, { target: trial, swap: "innerHTML" });
    };
    form.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(look, 250);
    });
    window.addEventListener("load", look);
  }

  // keys

  const GO = { o: "", q: "queues", j: "jobs", d: "dead", s: "schedules", t: "ticks", n: "nodes", l: "locks" };
  let gone = 0;
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key === "Escape" && isTyping) event.target.blur();
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (event.timeStamp - gone < 1500 && event.key in GO) {
      location.assign(root + GO[event.key]);
      event.preventDefault();
    } else if (event.key === "/") {
      const field = $("[data-search]");
      if (field) field.focus();
      else location.assign(`${root}jobs#search`);
      event.preventDefault();
    } else if (event.key === "?") {
      $("#help")?.showModal();
      event.preventDefault();
    }
    gone = event.key === "g" ? event.timeStamp : 0;
  });
  if (location.hash === "#search") $("[data-search]")?.focus();

  // the screen that is shown stays in sight in the line of the phone
  const current = $(".nav [aria-current]");
  if (current) current.parentElement.scrollLeft = current.offsetLeft - 60;
  listen();
  wait();
  draw();
})();

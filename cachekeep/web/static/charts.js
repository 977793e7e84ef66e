// Charts of a cache's metrics with the bands of the verdicts behind them. Numbers come from data-url as JSON.
"use strict";
(function () {
  const RENEW_MS = 60000;
  const TABLE_ROWS = 60;
  const HEIGHT = 180;
  const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];
  const shown = new Map();

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function figures(value, unit, rounded) {
    if (value === null || value === undefined) return "–";
    if (unit === "Bytes") {
      const units = ["B", "KiB", "MiB", "GiB", "TiB"];
      let at = 0;
      while (Math.abs(value) >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
      return (rounded ? rounded(value) : value.toFixed(at ? 1 : 0)) + " " + units[at];
    }
    return Number(value.toPrecision(5)).toLocaleString("en") + (unit === "Percent" ? " %" : "");
  }

  // Beside an axis: 1.25 MiB where it is that, but not 64.0 MiB.
  function tick(value, unit) {
    return figures(value, unit, function (number) { return String(Number(number.toFixed(2))); });
  }

  // "2026-11-23 14:23", in UTC as events and journal have it.
  function utc(seconds) {
    return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
  }

  // Hours and minutes, and the day where it begins; of long times the day alone.
  function timeTicks(_, all, axis, space, step) {
    let day = "";
    return all.map(function (at) {
      const before = day, parts = utc(at).split(" ");
      day = parts[0];
      if (step >= 86400) return day;
      return parts[1] + (day === before ? "" : "\n" + day);
    });
  }

  // Steps of sizes are powers of two, and no finer than one byte: 512 KiB, 1 MiB, not 976.6 KiB.
  const BYTE_STEPS = Array.from({ length: 50 }, function (_, power) { return Math.pow(2, power); });

  // The bands are drawn before the lines, each over the part of the scale that it covers.
  function drawBands(bands) {
    return function (plot) {
      const context = plot.ctx, box = plot.bbox, scale = plot.scales.y;
      if (scale.min === null || scale.min === undefined) return;
      context.save();
      for (const band of bands) {
        const low = Math.max(band.from === null ? scale.min : band.from, scale.min);
        const high = Math.min(band.to === null ? scale.max : band.to, scale.max);
        if (high <= low) continue;
        const top = plot.valToPos(high, "y", true), bottom = plot.valToPos(low, "y", true);
        context.fillStyle = colour("--band-" + band.level) || "transparent";
        context.fillRect(box.left, top, box.width, bottom - top);
      }
      context.restore();
    };
  }

  function widthOf(place) { return Math.max(240, place.clientWidth); }

  function options(figure, numbers) {
    const grid = { stroke: colour("--rule"), width: 1 };
    const axis = { stroke: colour("--faint"), grid: grid, ticks: grid };
    const series = numbers.series.map(function (one, at) {
      return {
        label: one.label, width: 1.5, spanGaps: false, points: { show: numbers.starts.length < 2 },
        stroke: colour(LINES[at % LINES.length]),
        value: function (_, value) { return figures(value, numbers.unit); },
      };
    });
    return {
      width: widthOf(figure.querySelector("[data-plot]")), height: HEIGHT,
      tzDate: function (at) { return uPlot.tzDate(new Date(at * 1000), "Etc/UTC"); },
      series: [{ label: "UTC", value: function (_, at) { return at ? utc(at) : "–"; } }].concat(series),
      axes: [Object.assign({ space: 84, values: timeTicks }, axis), Object.assign({ size: 78, values: function (_, all) {
        return all.map(function (value) { return tick(value, numbers.unit); });
      } }, numbers.unit === "Bytes" ? { incrs: BYTE_STEPS } : {}, axis)],
      scales: { x: { range: [numbers.from, numbers.to] }, y: { range: function (_, low, high) {
        return [Math.min(0, low || 0), numbers.unit === "Percent" ? 100 : (high || 1) * 1.1];
      } } },
      hooks: { drawClear: [drawBands(numbers.bands)] },
      legend: { show: numbers.series.length < 13 },
    };
  }

  function draw(figure, numbers) {
    const place = figure.querySelector("[data-plot]"), before = shown.get(figure);
    if (before && before.plot) before.plot.destroy();
    figure.querySelector("[data-unit]").textContent =
      (numbers.unit === "None" ? "" : numbers.unit) + (numbers.per_minute ? " a minute" : "");
    const empty = !numbers.starts.length;
    figure.querySelector("[data-state]").textContent = empty ? "No datapoints in this time." : numbers.note;
    const data = [numbers.starts].concat(numbers.series.map(function (one) { return one.values; }));
    const plot = empty ? null : new uPlot(options(figure, numbers), data, place);
    shown.set(figure, { plot: plot, numbers: numbers });
    fillTable(figure);
    sayWhy(figure);
  }

  // Why a metric has no verdict, as the table of verdicts says it now.
  function sayWhy(figure) {
    const known = shown.get(figure);
    if (!known) return;
    const row = document.querySelector('[data-verdict="' + CSS.escape(known.numbers.judged_by) + '"]');
    const why = row ? row.dataset.why : "", place = figure.querySelector("p[data-why]");
    place.textContent = why ? why + "." : "";
    place.hidden = !why;
  }

  function cell(row, tag, text, scope) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (scope) made.scope = scope;
    row.append(made);
  }

  // The same numbers for those who do not see the drawing; made only when they are asked for.
  function fillTable(figure) {
    const details = figure.querySelector("details"), known = shown.get(figure);
    if (!details.open || !known) return;
    const numbers = known.numbers, table = document.createElement("table");
    const caption = table.createCaption();
    caption.textContent = figure.dataset.title + ", last " + TABLE_ROWS + " datapoints; " + numbers.bands.map(
      function (band) {
        return band.level + " from " + figures(band.from, numbers.unit) + " to " + figures(band.to, numbers.unit);
      }).join(", ");
    const head = table.createTHead().insertRow();
    cell(head, "th", "Time (UTC)", "col");
    for (const one of numbers.series) cell(head, "th", one.label, "col");
    const body = table.createTBody(), first = Math.max(0, numbers.starts.length - TABLE_ROWS);
    for (let at = numbers.starts.length - 1; at >= first; at -= 1) {
      const row = body.insertRow();
      cell(row, "th", utc(numbers.starts[at]), "row");
      for (const one of numbers.series) cell(row, "td", figures(one.values[at], numbers.unit));
    }
    figure.querySelector("[data-table]").replaceChildren(table);
    document.dispatchEvent(new Event("cachekeep:table"));
  }

  function load(figure) {
    const hours = document.querySelector("[data-hours]").value;
    const asked = new URLSearchParams(
      { region: figure.dataset.region, resource: figure.dataset.resource, metric: figure.dataset.metric, hours: hours });
    // Tells the server that nobody asked by hand: an unattended page must not keep its session alive.
    fetch(figure.dataset.url + "?" + asked, { headers: { "HX-Request": "true" } }).then(function (answer) {
      if (answer.status === 401) { location.assign(answer.headers.get("HX-Redirect")); return null; }
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.json();
    }).then(function (numbers) {
      // Another time may have been chosen while these were on their way.
      if (numbers && hours === document.querySelector("[data-hours]").value) draw(figure, numbers);
    }).catch(function () {
      figure.querySelector("[data-state]").textContent = "The datapoints cannot be read now; trying again in a minute.";
    });
  }

  const figuresOnPage = Array.from(document.querySelectorAll("[data-chart]"));
  const visible = new Set();
  // Only what is on the screen is fetched.
  const watcher = new IntersectionObserver(function (entries) {
    for (const entry of entries) {
      if (!entry.isIntersecting) { visible.delete(entry.target); continue; }
      visible.add(entry.target);
      if (!shown.has(entry.target)) load(entry.target);
    }
  }, { rootMargin: "200px" });
  for (const figure of figuresOnPage) {
    watcher.observe(figure);
    figure.querySelector("details").addEventListener("toggle", function () { fillTable(figure); });
  }

  function renew() {
    shown.forEach(function (known, figure) {
      if (!visible.has(figure)) { if (known.plot) known.plot.destroy(); shown.delete(figure); }
    });
    if (!document.hidden) visible.forEach(load);
  }
  function redraw() {
    shown.forEach(function (known, figure) { draw(figure, known.numbers); });
  }
  document.querySelector("[data-hours]").addEventListener("change", renew);
  document.addEventListener("cachekeep:theme", redraw);
  // The place of a drawing changes with the window, and with a scroll bar that comes or goes.
  const sizes = new ResizeObserver(function (entries) {
    for (const entry of entries) {
      const known = shown.get(entry.target.closest("[data-chart]")), width = widthOf(entry.target);
      if (known && known.plot && known.plot.width !== width) known.plot.setSize({ width: width, height: HEIGHT });
    }
  });
  for (const figure of figuresOnPage) sizes.observe(figure.querySelector("[data-plot]"));
  document.body.addEventListener("htmx:afterSettle", function () { figuresOnPage.forEach(sayWhy); });
  setInterval(renew, RENEW_MS);
})();

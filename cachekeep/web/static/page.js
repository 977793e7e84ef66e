// What pages do by themselves: theme, copying, telling screen readers what changed.
"use strict";
(function () {
  const root = document.documentElement;

  function isDark() {
    if (root.dataset.theme) return root.dataset.theme === "dark";
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }

  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.hidden = false;
    button.addEventListener("click", function () {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("cachekeep-theme", root.dataset.theme); } catch (_) { /* for this page only */ }
      document.dispatchEvent(new Event("cachekeep:theme"));
    });
  }

  function say(text) {
    const place = document.getElementById("announce");
    if (place && place.textContent !== text) place.textContent = text;
  }

  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", function () {
        navigator.clipboard.writeText(button.dataset.copy).then(
          function () { say("Copied."); button.classList.add("done"); },
          function () { say("The browser did not allow copying."); });
      });
    }
  }

  // The head of its column for each cell, for screens too narrow for a table.
  function label() {
    for (const table of document.querySelectorAll(".wide table")) {
      const heads = table.tHead ? Array.from(table.tHead.rows[0].cells, function (one) { return one.textContent; }) : [];
      for (const row of table.querySelectorAll("tbody tr, tfoot tr")) {
        let column = 0;
        for (const one of row.cells) {
          if (one.tagName === "TD" && heads[column]) one.dataset.label = heads[column];
          column += one.colSpan;
        }
      }
    }
  }

  // What scrolls must be reached by the keyboard; what does not must not be in its way.
  function makeReachable() {
    for (const place of document.querySelectorAll(".wide, .log, pre")) {
      const scrolls = place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight;
      if (scrolls) place.tabIndex = 0; else place.removeAttribute("tabindex");
    }
  }
  label();
  document.body.addEventListener("htmx:afterSettle", label);
  makeReachable();
  addEventListener("resize", makeReachable);
  document.addEventListener("cachekeep:table", makeReachable);
  document.body.addEventListener("htmx:afterSettle", makeReachable);
  document.addEventListener("toggle", makeReachable, true);

  // What was opened, moved sideways or reached by the keyboard stays so when the fragment around it renews.
  let opened = [], moved = [], focused = "";
  document.body.addEventListener("htmx:beforeSwap", function () {
    opened = Array.from(document.querySelectorAll("details[open][id]"), function (one) { return one.id; });
    moved = Array.from(document.querySelectorAll(".wide[id]"), function (one) { return [one.id, one.scrollLeft]; });
    focused = document.activeElement ? document.activeElement.id : "";
  });
  document.body.addEventListener("htmx:afterSwap", function () {
    for (const id of opened) { const one = document.getElementById(id); if (one) one.open = true; }
    makeReachable();
    for (const [id, left] of moved) { const one = document.getElementById(id); if (one) one.scrollLeft = left; }
    const one = focused && document.getElementById(focused);
    if (one && document.activeElement !== one) one.focus({ preventScroll: true });
  });

  // What could not be renewed is old, and must not look as if it were of now.
  function tellStale(text) {
    const place = document.getElementById("stale");
    if (place.textContent !== text) place.textContent = text;
    place.hidden = !text;
  }
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.body.addEventListener(name, function () {
      tellStale("The service does not answer. What is shown is old; it is asked again every few seconds.");
    });
  }
  document.body.addEventListener("htmx:responseError", function (event) {
    const status = event.detail.xhr.status;
    tellStale(status === 404 ? "This is not there any more. What is shown is old." :
      "The service answered with an error (" + status + "). What is shown is old.");
  });
  document.body.addEventListener("htmx:afterRequest", function (event) {
    if (event.detail.successful) tellStale("");
  });

  // Fragments renew every few seconds, but only what changed in their summary is said.
  document.body.addEventListener("htmx:afterSettle", function (event) {
    const text = event.detail.elt && event.detail.elt.dataset && event.detail.elt.dataset.announce;
    if (text) say(text);
  });
})();

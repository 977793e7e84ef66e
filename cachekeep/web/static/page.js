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

  // Fragments renew every few seconds, but only what changed in their summary is said.
  document.body.addEventListener("htmx:afterSettle", function (event) {
    const text = event.detail.elt && event.detail.elt.dataset && event.detail.elt.dataset.announce;
    if (text) say(text);
  });
})();

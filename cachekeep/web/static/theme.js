// Light or dark as chosen before; without a choice, as the system says. Loaded first, so that nothing flashes.
"use strict";
(function () {
  try {
    const chosen = localStorage.getItem("cachekeep-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (_) { /* storage is forbidden: the system's choice holds */ }
})();

"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const named = () => {
    theme.textContent = isDark() ? "Light theme" : "Dark theme";
    theme.setAttribute("aria-pressed", String(isDark()));
  };
  try {
    const kept = localStorage.getItem("ovseg-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* a page from disk may have no storage: the system's theme it is */ }
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("ovseg-theme", root.dataset.theme); } catch { /* not kept */ }
    named();
  });
  prefersDark.addEventListener("change", named);
  named();

  const gallery = document.getElementById("gallery");
  if (!gallery) return;
  const nouns = [...gallery.querySelectorAll(".noun")];
  const opened = nouns.map((noun) => noun.open);
  const select = document.getElementById("noun");
  const status = document.getElementById("gallery-status");
  const controls = gallery.querySelector(".controls");
  const verdict = () => controls.querySelector("input[name=verdict]:checked")?.value ?? "";
  const show = () => {
    const chosen = Number(select.value);
    nouns.forEach((noun, place) => {
      noun.hidden = place !== chosen;
      noun.open = place === chosen;
    });
    const cards = [...nouns[chosen].querySelectorAll(".cards > li")];
    let count = 0;
    for (const card of cards) {
      card.hidden = verdict() !== "" && !card.classList.contains(verdict());
      if (!card.hidden) count += 1;
    }
    const part = verdict() ? `; ${count} of them ${verdict()}` : "";
    status.textContent = `${nouns[chosen].querySelector("summary span").textContent}: ${nouns[chosen].dataset.status}${part}`;
  };
  controls.hidden = false;
  controls.addEventListener("submit", (event) => event.preventDefault());
  select.addEventListener("change", show);
  controls.addEventListener("change", show);
  for (const button of controls.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      const count = nouns.length;
      select.value = String((Number(select.value) + Number(button.dataset.step) + count) % count);
      show();
    });
  }
  const live = (on) => {
    gallery.classList.toggle("live", on);
    if (on) { show(); return; }
    nouns.forEach((noun, place) => {
      noun.hidden = false;
      noun.open = opened[place];
      for (const card of noun.querySelectorAll(".cards > li")) card.hidden = false;
    });
  };
  addEventListener("beforeprint", () => live(false));
  addEventListener("afterprint", () => live(true));
  live(true);
})();

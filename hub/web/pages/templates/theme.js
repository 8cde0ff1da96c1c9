// Light or dark as on the hub's pages: what was chosen there is kept under the same name, else the system's.
(() => {
  const KEY = "jupyterhub-bs-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const wanted = () => (["light", "dark"].includes(stored()) ? stored() : dark.matches ? "dark" : "light");
  const show = (theme) => document.documentElement.setAttribute("data-bs-theme", theme);
  show(wanted());
  dark.addEventListener("change", () => show(wanted()));
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("dark-theme-toggle");
    button.hidden = false;
    button.addEventListener("click", () => {
      const theme = document.documentElement.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
      try { localStorage.setItem(KEY, theme); } catch { /* a browser that keeps nothing: for this page only */ }
      show(theme);
    });
  });
})();

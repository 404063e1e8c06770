// A framed panel is as tall as what it shows, and as light or dark as the page around it.
const theme = () => {
  const chosen = document.body.dataset.theme;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return chosen === "auto" || !chosen ? (dark ? "dark" : "light") : chosen;
};

function dress(frame) {
  const page = frame.contentDocument?.documentElement; // null where a page was opened from a disk
  if (!page) return;
  frame.style.colorScheme = page.style.colorScheme = theme(); // equal, or the browser paints a canvas behind it
  page.setAttribute("theme", theme());
  page.style.background = "none";
  page.style.overflow = "hidden";
  page.querySelector("body").style.padding = "0";
}

addEventListener("DOMContentLoaded", () => {
  const frames = [...document.querySelectorAll("iframe.live")];
  for (const frame of frames) {
    const settle = () => {
      dress(frame);
      const body = frame.contentDocument?.body;
      if (!body) return;
      const fit = () => {
        const margin = getComputedStyle(body);
        const height = body.offsetHeight + parseFloat(margin.marginTop) + parseFloat(margin.marginBottom);
        frame.style.height = `${Math.ceil(height)}px`;
      };
      new ResizeObserver(fit).observe(body);
      fit();
    };
    frame.addEventListener("load", settle);
    if (frame.contentDocument?.readyState === "complete") settle();
  }
  const again = () => frames.forEach(dress);
  new MutationObserver(again).observe(document.body, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
});

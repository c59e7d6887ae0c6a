"use strict";
// What the theme's scripts make is reached by keyboard and named once for screen readers.
new MutationObserver(() => {
  document.querySelectorAll(".md-code__nav").forEach((one) => one.setAttribute("role", "none"));
  document.querySelectorAll(".md-typeset__scrollwrap").forEach((one) => {
    one.tabIndex = one.scrollWidth > one.clientWidth ? 0 : -1;
  });
}).observe(document.documentElement, { childList: true, subtree: true });

// What scrolls sideways can be scrolled by keys, too: code and tables that are wider than the page are stops of the tab key.
const scrollers = ".md-typeset pre > code, .md-typeset__scrollwrap"

function markScrollers() {
  for (const one of document.querySelectorAll(scrollers)) {
    if (one.scrollWidth > one.clientWidth) one.tabIndex = 0
    else one.removeAttribute("tabindex")
  }
}

// The theme puts tables into what scrolls while the page is shown.
new MutationObserver(markScrollers).observe(document.querySelector("article"), { childList: true, subtree: true })
addEventListener("load", markScrollers)
addEventListener("resize", markScrollers)

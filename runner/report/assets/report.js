// What every page does: tooltips of cells, copy buttons, filters. Pages are whole without it.
"use strict";
(() => {
  // A cell's tooltip opens on hover and focus for a look (its links inert, out of the keyboard's way); a click,
  // a tap or Enter pins it, and the browser's own popover behaviour (Escape, a click elsewhere) closes it.
  const place = (tip, button) => {
    const at = button.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.right - tip.offsetWidth), innerWidth - tip.offsetWidth - 8);
    const below = at.bottom + 6 + tip.offsetHeight <= innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - 6 - tip.offsetHeight)}px`;
  };
  const onScroll = () => {
    const tip = document.querySelector(".tip:popover-open");
    if (tip) place(tip, document.querySelector(`button[popovertarget="${tip.id}"]`));
  };
  addEventListener("scroll", onScroll, {passive: true, capture: true});
  for (const button of document.querySelectorAll("button[popovertarget]")) {
    const tip = document.getElementById(button.getAttribute("popovertarget"));
    const pinned = () => tip.matches(":popover-open") && !tip.inert;
    const look = () => {
      if (tip.matches(":popover-open") || document.querySelector(".tip:popover-open:not([inert])")) return;
      tip.inert = true;
      tip.showPopover({source: button});
      place(tip, button);
    };
    const leave = () => {
      if (!pinned() && tip.matches(":popover-open")) tip.hidePopover();
    };
    button.addEventListener("mouseenter", look);
    button.addEventListener("mouseleave", leave);
    button.addEventListener("focus", look);
    button.addEventListener("blur", leave);
    button.addEventListener("click", (event) => {
      event.preventDefault();
      if (pinned()) {
        tip.hidePopover();
        return;
      }
      tip.inert = false;
      if (!tip.matches(":popover-open")) tip.showPopover({source: button});
      place(tip, button);
    });
    tip.addEventListener("toggle", (event) => {
      if (event.newState === "closed") tip.inert = false;
    });

  }
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  };
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const before = button.innerHTML;
      const done = await copy(button.dataset.copy);
      button.textContent = done ? "Copied" : "Select it by hand";
      setTimeout(() => (button.innerHTML = before), 1500);
    });
  }

  for (const input of document.querySelectorAll("input[data-filter]")) {
    const rows = [...document.querySelectorAll(`#${input.dataset.filter} tbody tr`)];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const count = document.querySelector(`[data-count="${input.dataset.filter}"]`);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, index) => {
        row.hidden = !words.every((word) => texts[index].includes(word));
        shown += !row.hidden;
      });
      count.textContent = words.length ? `${shown} of ${rows.length}` : "";
    });
  }
})();

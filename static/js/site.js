/* The shell: drawer, toasts, keys, dialogs, running clocks. Every page works without it; it only makes pages quicker.
   Hooks: data-key="mod+k" (press it to focus or click the element), data-dialog="id", data-copy="selector", data-elapsed="seconds",
   <time data-local="date|time"> (or data-time with data-words before it), data-say="words" on a swapped-in part (announced once),
   and an event "toast" with {text, tone} on any element (an HX-Trigger header can send it). */
(() => {
  "use strict";
  const root = document.documentElement;
  const $ = (selector) => document.querySelector(selector);
  const wide = matchMedia("(min-width: 1200px)");
  /* What stands outside an open dialog is not spoken. */
  const say = (text) => { const status = $("dialog[open] [role=status]") ?? $("#status"); if (status) status.textContent = text; };

  /* The sidebar. Narrow, it is a popover and needs no script; wide, it folds away and a cookie keeps it so. */
  const side = $("#side");
  const fold = (closed) => {
    if (closed) root.dataset.side = "closed"; else delete root.dataset.side;
    document.cookie = `side=${closed ? "closed" : ""}; path=/; max-age=${closed ? 31536000 : 0}; samesite=lax`;
  };
  const toggleSide = () => { if (wide.matches) fold(root.dataset.side !== "closed"); else side.togglePopover(); };
  wide.addEventListener("change", () => { if (side?.matches(":popover-open")) side.hidePopover(); });

  /* Toasts. Good news goes by itself unless it is being read; what went wrong, or can be undone, stays until dismissed. */
  const toasts = $("#toasts");
  const settle = (toast) => {
    say(toast.innerText.trim());
    /* The drawer, which lies over everything, would hide it. */
    if (side?.matches(":popover-open")) side.hidePopover();
    if (toast.matches(".bad, .warn, :has(form)")) return;
    let timer;
    const start = () => { timer = setTimeout(() => toast.remove(), 6000); };
    for (const name of ["pointerenter", "focusin"]) toast.addEventListener(name, () => clearTimeout(timer));
    for (const name of ["pointerleave", "focusout"]) toast.addEventListener(name, start);
    start();
  };
  const toast = (text, tone = "good") => {
    const copy = $("#toast").content.firstElementChild.cloneNode(true);
    copy.classList.add(tone);
    const icon = copy.querySelector("use");
    icon.setAttribute("href", icon.getAttribute("href").replace("#info", tone === "good" ? "#check" : "#alert"));
    copy.children[1].textContent = text;
    toasts.append(copy);
  };
  if (toasts) {
    /* Announced a moment after the page, or a screen reader's own "page loaded" swallows it. */
    const early = [...toasts.children];
    setTimeout(() => early.forEach(settle), 400);
    new MutationObserver((changes) => {
      for (const change of changes) for (const node of change.addedNodes) if (node.matches?.(".toast")) settle(node);
    }).observe(toasts, { childList: true });
    document.addEventListener("toast", ({ detail }) => toast(detail.text ?? detail.value, detail.tone));
    document.addEventListener("allauth.error", (event) => { event.preventDefault(); toast(toasts.dataset.passkey, "bad"); });
    document.addEventListener("htmx:error", () => toast(toasts.dataset.offline, "bad"));
    /* A whole page where a part was asked for: signed out meanwhile, gone, or an error. It fits nowhere. */
    document.addEventListener("htmx:after:request", (event) => {
      if (!/^\s*<!doctype/i.test(event.detail.ctx.text)) return;
      event.preventDefault();
      toast(toasts.dataset.outdated, "bad");
    });
    /* Refused without a word that would be shown: what stands in between may answer, too. */
    document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
      if (ctx.swap === "none" && !ctx.hx.trigger) toast(toasts.dataset.outdated, "bad");
    });
  }

  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest?.(selector);
    const drawer = hit(".drawer");
    if (drawer && wide.matches) {
      event.preventDefault();
      toggleSide();
      $(root.dataset.side ? ".bar .drawer" : ".side .drawer")?.focus();
    }
    hit(".toast .close")?.closest(".toast").remove();
    const opener = hit("[data-dialog]");
    /* A link is one only once htmx has taken the click to fetch what the dialog shows. */
    if (opener && (!opener.href || event.defaultPrevented)) document.getElementById(opener.dataset.dialog)?.showModal();
    const copy = hit("[data-copy]");
    if (copy) copyText(copy);
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target) || opener || hit(".menu a")) menu.open = false;
    }
  });

  async function copyText(button) {
    const source = $(button.dataset.copy);
    const words = (source.value ?? source.innerText).trim();
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      /* Without https there is no clipboard: the old way needs a selection, in the dialog where one is open. */
      const box = Object.assign(document.createElement("textarea"), { value: words });
      button.after(box);
      box.select();
      document.execCommand("copy");
      box.remove();
      button.focus();
    }
    const icon = button.querySelector("use");
    const was = icon.getAttribute("href");
    icon.setAttribute("href", was.replace("#copy", "#check"));
    const { copied } = $("#status").dataset;
    say(copied);
    if (was.endsWith("#check")) return;
    const word = button.querySelector("span");
    const before = word?.textContent;
    if (word) word.textContent = copied;
    setTimeout(() => {
      icon.setAttribute("href", was);
      if (word) word.textContent = before;
    }, 1600);
  }

  /* A form that was refused is gone on with at what is wrong. */
  $("main [aria-invalid='true']")?.focus();

  /* Keys. A page says which element a key belongs to; the last visible one wins, so a dialog's beats the page's. */
  const keys = root.dataset.shortcuts !== "off";
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const menu = $("details.menu[open]");
    if (event.key === "Escape" && menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
      return;
    }
    if (!keys || (event.key === "Escape" && $("dialog[open], :popover-open"))) return;
    if (event.key === "Escape" && event.target.matches("input")) return; /* it empties a search, or ends a rename */
    const combo = [
      (event.ctrlKey || event.metaKey) && "mod", event.altKey && "alt", event.shiftKey && "shift", event.key.toLowerCase(),
    ].filter(Boolean).join("+");
    if (combo === "mod+shift+s" && side) {
      event.preventDefault();
      toggleSide();
      return;
    }
    const owner = [...document.querySelectorAll(`[data-key="${CSS.escape(combo)}"]`)].pop();
    if (!owner || owner.disabled) return;
    event.preventDefault();
    if (side?.contains(owner)) { if (!wide.matches) side.showPopover(); else if (root.dataset.side) fold(false); }
    if (owner.matches("input, textarea, select")) { owner.focus(); owner.select?.(); } else owner.click();
  });

  /* Running clocks: data-elapsed holds the seconds when it was rendered; the page counts on from there. */
  const since = new WeakMap();
  const tick = () => {
    for (const clock of document.querySelectorAll("[data-elapsed]")) {
      let start = since.get(clock);
      if (start?.from !== clock.dataset.elapsed) {
        start = { from: clock.dataset.elapsed, at: performance.now() };
        since.set(clock, start);
      }
      const seconds = Math.floor(Number(start.from) + (performance.now() - start.at) / 1000);
      const text = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
      if (clock.textContent !== text) clock.textContent = text;
    }
  };
  setInterval(tick, 1000);

  /* Times in the reader's own zone. */
  const local = (scope) => {
    for (const time of scope.querySelectorAll("[data-local]")) {
      const options = time.dataset.local === "date" ? { dateStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
      const { words = "", time: moment = time.dateTime } = time.dataset;
      time.textContent = words + new Intl.DateTimeFormat(root.lang, options).format(new Date(moment));
      time.removeAttribute("data-local");
    }
  };
  local(document);
  /* What a swapped-in part wants announced. */
  document.addEventListener("htmx:after:swap", () => {
    local(document);
    const spoken = $("[data-say]");
    if (spoken) { say(spoken.dataset.say); spoken.removeAttribute("data-say"); }
  });
})();

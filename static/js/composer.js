/* The composer: Enter sends, a draft that outlives the page, examples that fill, one question a click. */
(() => {
  "use strict";
  const form = document.getElementById("composer");
  if (!form) return;
  const text = form.elements.question;
  const key = `draft:${form.dataset.draft}`;
  const touch = matchMedia("(pointer: coarse)");
  const store = (name, value) => {
    try {
      if (value) localStorage.setItem(name, value); else localStorage.removeItem(name);
    } catch { /* private windows may refuse; a draft is a comfort, not a promise */ }
  };
  const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };

  /* So that "Today" in the history is the reader's today. */
  document.cookie = `zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}; path=/; max-age=31536000; samesite=lax`;

  /* Where CSS cannot size a box by its content: ten lines at most, which is its max-height. */
  const grow = () => {
    if (CSS.supports("field-sizing", "content")) return;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  };
  /* In a small window toasts stand above it, however much is typed. */
  const dock = form.closest(".dock");
  if (dock) new ResizeObserver(() => document.documentElement.style.setProperty("--dock", `${dock.offsetHeight}px`)).observe(dock);
  const fill = (value) => {
    text.value = value;
    text.dispatchEvent(new Event("input", { bubbles: true }));
    text.focus();
    text.setSelectionRange(value.length, value.length);
  };

  /* What was sent stays a draft until a page shows it: only then has the server got it. Until then it keeps its id, so
     that it is asked once, however often it is sent. */
  let fresh = form.elements.request_id.value;
  const settle = () => {
    let sent = JSON.parse(stored("sent") ?? "null");
    if (sent && sent[2] === form.dataset.received && stored(sent[0]) === sent[1]) store(sent[0], "");
    if (sent && stored(sent[0]) !== sent[1]) {
      store("sent", "");
      sent = null;
    }
    if (!text.value) text.value = stored(key) ?? "";
    form.elements.request_id.value = sent && sent[0] === key && sent[1] === text.value ? sent[2] : fresh;
  };
  settle();
  grow();

  text.addEventListener("input", () => {
    form.querySelector(".error")?.remove();
    store(key, text.value);
    settle();
    grow();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.altKey || event.isComposing || event.keyCode === 229) return;
    if (touch.matches && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    if (text.value.trim()) form.requestSubmit();
  });

  let sending = false;
  form.addEventListener("submit", (event) => {
    if (sending) {
      event.preventDefault();
      return;
    }
    sending = true;
    store(key, text.value);
    store("sent", JSON.stringify([key, text.value, form.elements.request_id.value]));
    /* Not `disabled`: that would drop focus, and a page that comes back would still have it. */
    form.querySelector(".send").setAttribute("aria-disabled", "true");
  });

  /* A page that comes back by the Back button has its old form: another id, or the server takes it for the old question. */
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    sending = false;
    form.querySelector(".send").removeAttribute("aria-disabled");
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    fresh = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    text.value = "";
    settle();
    grow();
  });

  document.addEventListener("click", (event) => {
    const example = event.target.closest?.("[data-fill]");
    if (example) fill(example.dataset.fill);
    const again = event.target.closest?.("[data-again]");
    if (again) {
      event.preventDefault();
      fill(document.querySelector(again.dataset.again).textContent);
    }
  });
})();

/* A button that copies the box it names: data-copy="id". Without a script the box can be selected, and there is no button. */
(() => {
  "use strict";
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const words = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const box = document.getElementById(button.dataset.copy);
      box.select();
      try {
        await navigator.clipboard.writeText(box.value);
      } catch {
        /* Without https there is no clipboard. */
        document.execCommand("copy");
      }
      button.textContent = button.dataset.copied;
      setTimeout(() => { button.textContent = words; }, 1600);
    });
  }
})();

// Steps through figures. Each figure with frames has a list of captions, a slider and buttons;
// parts of its picture carry data-frame="k": they are reached at step k.
"use strict";
(() => {
  const WAIT = 900; // milliseconds between two steps while playing
  const steppers = [];
  let active = null; // keys act on this one: the last that was touched

  function stepper(figure) {
    const find = (name) => figure.querySelector(name);
    const captions = [...figure.querySelectorAll(".captions li")].map((li) => li.textContent);
    const parts = [...figure.querySelectorAll("[data-frame]")];
    const slider = find("input");
    const play = find("[data-go=play]");
    const last = captions.length - 1;
    let now = last;
    let timer = null;

    function show(step) {
      now = Math.min(Math.max(step, 0), last);
      for (const part of parts) {
        const frame = Number(part.dataset.frame);
        part.classList.toggle("later", frame > now);
        part.classList.toggle("now", frame === now);
      }
      slider.value = now;
      slider.setAttribute("aria-valuetext", captions[now]);
      find(".count").textContent = `${now + 1} / ${last + 1}`;
      find(".text").textContent = captions[now];
    }

    // On a narrow screen the picture is wider than its frame: bring what is new into view.
    function move(step) {
      show(step);
      const part = parts.find((one) => one.classList.contains("now"));
      if (!part) return;
      const wide = find(".wide");
      const [box, view] = [part.getBoundingClientRect(), wide.getBoundingClientRect()];
      if (box.left >= view.left && box.right <= view.right) return;
      wide.scrollLeft += (box.left + box.right - view.left - view.right) / 2;
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = play.dataset.play;
    }

    function start() {
      play.textContent = play.dataset.pause;
      if (now === last) move(0);
      timer = setInterval(() => {
        move(now + 1);
        if (now === last) stop();
      }, WAIT);
    }

    const go = {
      first: () => move(0),
      previous: () => move(now - 1),
      next: () => move(now + 1),
      last: () => move(last),
    };

    function act(name) {
      const playing = timer !== null;
      stop();
      if (name !== "play") go[name]();
      else if (!playing) start();
    }

    for (const button of figure.querySelectorAll("button")) {
      button.addEventListener("click", () => act(button.dataset.go));
    }
    slider.addEventListener("input", () => {
      stop();
      move(Number(slider.value));
    });
    find(".stepper").hidden = false; // without scripts only the list of captions is there
    find(".captions").classList.add("paper");
    show(last);
    return { figure, act };
  }

  const KEYS = {
    ArrowLeft: "previous",
    ArrowRight: "next",
    Home: "first",
    End: "last",
    " ": "play",
  };

  // A button is pressed with space, a slider and a wide picture are moved with arrows.
  function usesKey(element, key) {
    if (element.closest("textarea, select, [contenteditable]")) return true;
    if (key === " ") return element.closest("button, a, summary") !== null;
    const wide = element.closest(".wide");
    return element.closest("input") !== null || (wide && wide.scrollWidth > wide.clientWidth);
  }

  for (const figure of document.querySelectorAll("figure.steps")) {
    const one = stepper(figure);
    steppers.push(one);
    for (const event of ["pointerdown", "focusin"]) {
      figure.addEventListener(event, () => (active = one));
    }
  }
  active = steppers[0];

  document.addEventListener("keydown", (event) => {
    const name = KEYS[event.key];
    const held = event.ctrlKey || event.altKey || event.metaKey || event.shiftKey;
    if (!active || !name || held || usesKey(event.target, event.key)) return;
    event.preventDefault(); // the page should not scroll
    active.act(name);
  });
})();

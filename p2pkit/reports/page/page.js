"use strict";
(() => {
  const root = document.documentElement;
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  root.classList.add("js");

  // samples through time: of each sample the newest output that is no newer than the step chosen
  const time = document.getElementById("time");
  if (time) {
    const steps = JSON.parse(time.dataset.steps);
    const shown = document.getElementById("step");
    const play = document.getElementById("play");
    const show = () => {
      const step = steps[time.value];
      shown.textContent = `step ${step.toLocaleString("en")}`;
      time.setAttribute("aria-valuetext", shown.textContent);
      for (const over of all(".over")) {
        let newest = null;
        for (const image of all("img[data-step]", over)) {
          image.hidden = true;
          if (newest === null || Number(image.dataset.step) <= step) newest = image;
        }
        if (newest) newest.hidden = false;
      }
    };
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
    };
    time.addEventListener("input", () => { stop(); show(); });
    play.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(time.value) >= steps.length - 1) time.value = 0;
      play.textContent = "Pause";
      show();
      timer = setInterval(() => {
        time.value = Number(time.value) + 1;
        show();
        if (Number(time.value) >= steps.length - 1) stop();
      }, 350);
    });
    show();
  }

  // the wipe: what is left of the handle is the output, what is right of it the target or a source
  const narrow = matchMedia("(max-width: 40rem)").matches;
  for (const wipe of all(".wipe")) {
    const stack = wipe.querySelector(".stack"), range = wipe.querySelector("input[type=range]");
    let against = "target";
    const set = () => {
      stack.style.setProperty("--at", `${range.value}%`);
      range.setAttribute("aria-valuetext", `${range.value}% output, the rest ${against}`);
    };
    const drag = (event) => {
      const box = stack.getBoundingClientRect();
      range.value = Math.round(100 * (event.clientX - box.left) / box.width);
      set();
    };
    const choose = (name) => {
      against = name;
      for (const image of all("img[data-of]", stack)) image.hidden = image.dataset.of !== name;
      wipe.querySelector(".other").textContent = name;
      set();
    };
    stack.addEventListener("pointerdown", (event) => { stack.setPointerCapture(event.pointerId); drag(event); });
    stack.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
    range.addEventListener("input", set);
    for (const choice of all("input[type=radio]", wipe)) {
      choice.addEventListener("change", () => { if (choice.checked) choose(choice.value); });
    }
    range.value = narrow ? 50 : 100;
    const first = wipe.querySelector("img[data-of]");
    if (first) choose(first.dataset.of); else set();
  }

  // plots: the values at the step under the pointer
  for (const plot of all(".plot")) {
    const drawn = plot.querySelector(".drawn"), svg = drawn.querySelector("svg");
    const points = JSON.parse(plot.querySelector("script").textContent);
    const cursor = drawn.querySelector(".cursor"), tip = drawn.querySelector(".tip");
    const labels = JSON.parse(plot.dataset.labels);
    const leave = () => { cursor.hidden = tip.hidden = true; };
    drawn.addEventListener("pointerleave", leave);
    drawn.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const x = (event.clientX - box.left) / scale;
      let nearest = null;
      for (const series of points.series) {
        series.dots.forEach(([dot], place) => {
          if (nearest === null || Math.abs(dot - x) < Math.abs(nearest.dot - x)) nearest = { dot, step: series.steps[place] };
        });
      }
      if (nearest === null) return leave();
      const rows = [`step ${nearest.step.toLocaleString("en")}`];
      points.series.forEach((series, number) => {
        const place = series.steps.indexOf(nearest.step);
        if (place >= 0) rows.push(`${labels[number]}: ${series.values[place]}`);
      });
      tip.replaceChildren(...rows.map((row) => {
        const line = document.createElement("div");
        line.textContent = row;
        return line;
      }));
      cursor.hidden = tip.hidden = false;
      cursor.style.left = `${nearest.dot * scale}px`;
      cursor.style.top = `${box.top - drawn.getBoundingClientRect().top + points.top * scale}px`;
      cursor.style.height = `${(points.bottom - points.top) * scale}px`;
      const right = nearest.dot * scale + tip.offsetWidth + 12 > box.width;
      tip.style.left = `${nearest.dot * scale + (right ? -tip.offsetWidth - 10 : 10)}px`;
    });
  }
})();

"use strict";
// The server renders; this only puts what it sends in place, and moves through the rounds.
const [view, slider, shown, play, live, connection] =
  ["view", "round", "shown", "play", "live", "connection"].map((id) => document.getElementById(id));
let stream = null, playing = null, asked = 0;

function number(round) {
  shown.textContent = `${round} of ${slider.max}`;
}

function watch() {
  stop();
  live.setAttribute("aria-pressed", "true");
  stream = new EventSource("stream");
  stream.onmessage = (event) => {
    const [newest, ...lines] = event.data.split("\n");
    slider.max = Math.max(newest, 1);
    slider.value = slider.max;
    number(slider.value);
    view.innerHTML = lines.join("\n");
    connection.textContent = "";
  };
  stream.onerror = () => {
    connection.textContent = "No answer from the server: what is shown is old. Trying again.";
  };
}

function stop() {
  stream?.close();
  stream = null;
  live?.setAttribute("aria-pressed", "false");
}

async function show(round) {
  stop();
  slider.value = round;
  number(round);
  const mine = ++asked;
  try {
    const answer = await fetch(`view?round=${round}`);
    const text = await answer.text();
    if (mine !== asked || stream) return;
    if (answer.ok) view.innerHTML = text;
    connection.textContent = answer.ok ? "" : text;
  } catch {
    connection.textContent = "No answer from the server: is it still running?";
  }
}

function pause() {
  clearInterval(playing);
  playing = null;
  play.textContent = "Play";
  play.setAttribute("aria-pressed", "false");
}

slider.addEventListener("input", () => { pause(); show(Number(slider.value)); });
live?.addEventListener("click", () => { pause(); watch(); });
play.addEventListener("click", () => {
  if (playing) return pause();
  play.textContent = "Pause";
  play.setAttribute("aria-pressed", "true");
  if (slider.value === slider.max) show(1);
  playing = setInterval(() => {
    const next = Number(slider.value) + 1;
    if (next > Number(slider.max)) return pause();
    show(next);
  }, 600);
});
if (document.body.dataset.replay === "no") watch();

"use strict";

// All data from cameras is inserted as text, never as markup.
const pictures = new Map();
let token = "";

async function get(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers });
  if (answer.status === 401) {
    document.getElementById("ask").hidden = false;
  }
  return answer;
}

function ago(now, then) {
  const seconds = Math.max(0, Math.round(now - then));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

async function picture(id) {
  const answer = await get(`/api/v1/cameras/${encodeURIComponent(id)}/latest.jpg?missing=204`);
  if (answer.status !== 200) return;
  const image = pictures.get(id);
  const before = image.src;
  image.src = URL.createObjectURL(await answer.blob());
  if (before) URL.revokeObjectURL(before);
}

function row(camera, now) {
  const line = document.createElement("tr");
  const size = camera.width ? `${camera.width}x${camera.height} ${camera.codec || ""}` : "";
  const cells = [camera.camera_id, camera.state, ago(now, camera.since), camera.fps, size,
    camera.sent, camera.superseded, camera.restarts, camera.last_error || ""];
  for (const text of cells) {
    const cell = document.createElement("td");
    cell.textContent = text;
    line.append(cell);
  }
  if (!pictures.has(camera.camera_id)) {
    const image = document.createElement("img");
    image.width = 120;
    image.alt = "";
    pictures.set(camera.camera_id, image);
  }
  const cell = document.createElement("td");
  cell.append(pictures.get(camera.camera_id));
  line.append(cell);
  return line;
}

async function refresh() {
  try {
    const answer = await get("/api/v1/cameras");
    if (answer.ok) {
      const { cameras, now } = await answer.json();
      const live = cameras.filter((camera) => camera.state === "live");
      document.getElementById("summary").textContent = `${live.length} of ${cameras.length} live`;
      document.getElementById("cameras").replaceChildren(...cameras.map((it) => row(it, now)));
      await Promise.all(live.map((camera) => picture(camera.camera_id)));
    }
  } catch {
    document.getElementById("summary").textContent = "no answer";
  }
  setTimeout(refresh, 2000);
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value;
  document.getElementById("ask").hidden = true;
});
refresh();

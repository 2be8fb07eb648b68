"""What a demonstration shows: verdict, figures per robot and world, who sent what to whom, a GIF; one page of all."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeflock.runtime.extras import needs
from edgeflock.runtime.figures import GREEN, VERMILLION, new_figure, save_figure
from edgeflock.runtime.files import write_atomically
from edgeflock_lab.demo.drives import Outcome, drivers, outcomes, shortfalls
from edgeflock_lab.demo.exchanges import Link, exchange_figure, read_links
from edgeflock_lab.demo.learn import apart
from edgeflock_lab.demo.scene import ALL, HOMES, Folder, Scene, alone, fleet
from edgeflock_lab.figures import write_gif

CELL = (216, 162)
CAPTION = 22  # px
GIF_FPS = 4
GIF_EVERY = 2  # frames of a drive to one of the GIF, whose noise does not compress
RGB = {True: (0, 158, 115), False: (213, 94, 0)}  # GREEN, VERMILLION

Outcomes = dict[tuple[str, str], Outcome]


@dataclass(frozen=True)
class Story:
    """All that a demonstration found."""

    scene: Scene
    found: Outcomes
    links: list[Link]
    apart: float
    drivers: dict[str, str]
    seconds: dict[str, float]
    transport: str

    @classmethod
    def read(cls, scene: Scene, folder: Folder, seconds: dict[str, float]) -> Story:
        """From the results of the stages."""
        links = read_links({robot: folder.net(fleet(robot)) / "events.jsonl" for robot in HOMES})
        found, by = outcomes(scene, folder), drivers(folder)
        return cls(scene, found, links, apart(folder), by, seconds, folder.transport.read_text())

    @property
    def shortfalls(self) -> list[tuple[str, str, float]]:
        """Where a fleet's net came less far than the robot's own."""
        return shortfalls(self.found)

    @property
    def verdict(self) -> str:
        """One sentence."""
        course = f"{self.scene.course_m:g} m"
        counts = {
            kind: sum(self.found[net(robot), home].whole for robot in HOMES for home in HOMES)
            for kind, net in (("alone", alone), ("fleet", fleet))
        }
        drives = len(HOMES) ** 2
        said = (
            f"Whole courses of {course} without collision, of {drives}: {counts['alone']} by what each robot learnt "
            f"alone, {counts['fleet']} by what the fleet learnt"
        )
        if not self.shortfalls:
            return f"{said}. In every world the fleet's net drives at least as far as every robot's own."
        where = ", ".join(f"{r} in {HOMES[h].name} by {metres:.1f} m" for r, h, metres in self.shortfalls)
        return f"{said}. The fleet's net drives less far than a robot's own: {where}."

    def plain(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {
            "verdict": self.verdict,
            "reached": not self.shortfalls,
            "scene": self.scene.model_dump(),
            "transport": self.transport,
            "seconds": self.seconds,
            "largest_difference_of_the_fleets_nets": self.apart,
            "links": [
                {"from": link.sender, "to": link.receiver, "models": len(link.mixed_s), "bytes": link.sent_bytes}
                for link in self.links
            ],
            "drives": [
                {"net": net, "world": home, "reached_m": round(o.reached_m, 3), "record": o.record.model_dump()}
                for (net, home), o in self.found.items()
            ],
        }


def write_story(story: Story, folder: Folder) -> None:
    """Write demo.json, the pictures, demo.gif and report.html."""
    with needs("The report of the demonstration"):
        import jinja2
    out = folder.path
    way_figure(story, out / "ways.png")
    exchange_figure(story.links, {robot: home.name for robot, home in HOMES.items()}, out / "exchange.png")
    write_gif(side_by_side(story, folder), out / "demo.gif", fps=GIF_FPS)
    page = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    html = page.render(
        story=story,
        scene=story.scene,
        homes=HOMES,
        nets=[("alone", alone), ("the fleet's", fleet), ("of all data", lambda robot: ALL)],
        good=GREEN,
        bad=VERMILLION,
        cores=os.cpu_count(),
        models=sum(len(link.mixed_s) for link in story.links),
        sent_mb=sum(link.sent_bytes for link in story.links) / 1e6,
        load=os.getloadavg()[2],
    )
    write_atomically(out / "report.html", html)
    write_atomically(out / "demo.json", json.dumps(story.plain(), indent=1) + "\n")


def way_figure(story: Story, file: Path) -> None:
    """How far each net came in each world, as a share of the course."""
    figure = new_figure(9.0, 3.6, "The report of the demonstration")
    axes = figure.subplots(1, len(HOMES), sharey=True)
    rows = [*map(alone, HOMES), fleet("r1"), ALL]
    words = [*(f"{robot} alone ({home.name})" for robot, home in HOMES.items()), "fleet", "all data"]
    if len({story.drivers[fleet(robot)] for robot in HOMES}) > 1:  # they did not agree: each has a row
        rows[3:4], words[3:4] = [*map(fleet, HOMES)], [f"fleet, {robot}" for robot in HOMES]
    for ax, (home, world) in zip(axes, HOMES.items(), strict=True):
        reached = [story.found[net, home] for net in rows]
        colours = [GREEN if one.whole else VERMILLION for one in reached]
        ax.barh(range(len(rows)), [one.reached_m for one in reached], color=colours, height=0.7)
        for y, one in enumerate(reached):
            ax.text(one.reached_m, y, f" {one.reached_m:.1f}", va="center", fontsize=8)
        ax.set(title=world.name, xlabel="m without collision", xlim=(0, 1.2 * story.scene.course_m))
        ax.axvline(story.scene.course_m, color="black", lw=0.8, ls=":")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(rows)), words)
    axes[0].invert_yaxis()
    save_figure(figure, file)


def side_by_side(story: Story, folder: Folder) -> list[np.ndarray]:
    """Frames of a GIF: each robot where it came least far alone, above with its own net, below with the fleet's."""
    columns = []
    for robot in HOMES:
        strange = [home for home in HOMES if home != robot]
        home = min(strange, key=lambda home: story.found[alone(robot), home].reached_m)
        cells = [(f"{robot} alone", alone(robot)), (f"{robot}, fleet", fleet(robot))]
        columns.append([_cell(story, folder, words, net, home) for words, net in cells])
    length = min(len(cell) for column in columns for cell in column)
    return [np.hstack([np.vstack([cell[n] for cell in column]) for column in columns]) for n in range(length)]


def _cell(story: Story, folder: Folder, words: str, net: str, home: str) -> list[np.ndarray]:
    """Frames of a drive under a caption with its outcome; from its first collision on the picture stands in a frame."""
    from PIL import Image, ImageSequence

    outcome = story.found[net, home]
    record = outcome.record
    with Image.open(folder.drive(story.drivers[net], home) / "drive.gif") as gif:
        seen = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)][::GIF_EVERY]
    frames = []
    clear_s = record.clear_s if record.collisions and record.clear_s is not None else np.inf
    crash = min(int(np.ceil(clear_s / record.duration_s * len(seen))), len(seen) - 1) if record.collisions else None
    for n, image in enumerate(seen):
        clear = crash is None or n < crash
        image = cv2.resize(image if clear or crash is None else seen[crash], CELL, interpolation=cv2.INTER_AREA)
        if not clear:
            image = cv2.rectangle(image // 2, (2, 2), (CELL[0] - 3, CELL[1] - 3), RGB[False], 5)
            where = (CELL[0] // 2 - 50, CELL[1] // 2)
            cv2.putText(image, "collision", where, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2, cv2.LINE_AA)
        bar = np.full((CAPTION, CELL[0], 3), RGB[outcome.whole], np.uint8)
        text = f"{words}, {HOMES[home].name}: {outcome.reached_m:.1f} m"
        cv2.putText(bar, text, (4, CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
        frames.append(np.vstack([bar, image]))
    return frames


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>edgeflock fleet demo</title>
<style>
  body { font: 16px/1.45 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
  h1 { font-size: 1.35rem } h2 { font-size: 1.1rem; margin-top: 2rem } img { max-width: 100% }
  table { border-collapse: collapse } td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left }
  td.n { text-align: right; font-variant-numeric: tabular-nums }
  .good { color: {{ good }} } .bad { color: {{ bad }} } .verdict { font-weight: 600 }
</style>
<h1>Three robots learn alone, and together</h1>
<p class="verdict {{ "bad" if story.shortfalls else "good" }}">{{ story.verdict }}</p>
<img src="demo.gif" alt="Each robot in a world that is not its own: above with its own net, below with the fleet's">
<p>{% for robot, home in homes.items() %}{{ robot }} lives in {{ "a building" if home.kind == "indoor" else "a world" }}
  ({{ home.name }}).{{ " " }}{% endfor %}Each recorded {{ scene.frames }} frames at home with an expert's steering and
  saw no other world. The pictures show each robot in the strange world in which it came least far alone.</p>
<h2>How far each robot drives in each world</h2>
<img src="ways.png" alt="Way without collision of every net in every world">
<table>
<tr><th>robot</th><th>in</th>{% for words, _ in nets %}<th colspan="3">net {{ words }}</th>{% endfor %}</tr>
<tr><th></th><th></th>{% for _ in nets %}<th>m without collision</th><th>collisions</th><th>lateral RMS, m</th>
{% endfor %}</tr>
{% for robot in homes %}{% for home, world in homes.items() %}
<tr><td>{{ robot }}</td><td>{{ world.name }}{{ " (home)" if robot == home }}</td>
{% for _, net in nets %}{% set one = story.found[net(robot), home] %}
<td class="n {{ "good" if one.whole else "bad" }}"><a class="{{ "good" if one.whole else "bad" }}"
  href="drives/{{ story.drivers[net(robot)] }}/{{ home }}/report.html">{{ "%.1f" % one.reached_m }}</a></td>
<td class="n">{{ one.record.collisions }}</td><td class="n">{{ "%.2f" % one.record.lateral_error_m.rms }}</td>
{% endfor %}</tr>
{% endfor %}{% endfor %}
</table>
<p>A course is {{ "%g" % scene.course_m }} m long and driven at {{ "%g" % scene.speed }} m/s, in lock-step through the
  ROS 2 nodes of a robot, at {{ scene.fps }} frames per second. The lateral error is that of the whole drive, also after
  a collision.</p>
<h2>Who sent what to whom, and when</h2>
<img src="exchange.png" alt="Models and bytes of each link, and when each model was mixed">
<p>{{ models }} models were mixed and {{ "%.0f" % sent_mb }} MB sent, over {{ story.transport }}. No image left a robot.
  After the last exchange no weight of two robots differs by more than {{ "%.1g" % story.apart }}
  {{- ": one net drives for all three." if story.drivers["r2-fleet"] == "r1-fleet" else "." }}</p>
<h2>What was compared</h2>
<p>All nets (FADNet) start from the same random weights and do the same {{ scene.rounds * scene.steps }} steps with the
  same learning rate. A robot alone learns from its own frames, {{ scene.batch }} in a step. In the fleet each robot
  does just that, and every {{ scene.steps }} steps the three mix their weights. The net of all data takes the
  {{ homes|length }} x {{ scene.batch }} frames of all robots in a step, as if all images had been brought to one place.
  The worlds are simulated, and every net drives the very worlds that were recorded, not new ones.</p>
<table>{% for stage, seconds in story.seconds.items() %}
<tr><td>{{ stage }}</td><td class="n">{{ "%.0f" % seconds }} s</td></tr>{% endfor %}</table>
<p>Measured on {{ cores }} cores, load of the last 15 minutes {{ "%.1f" % load }}.
  All figures: <a href="demo.json">demo.json</a>. What the processes printed: <a href="logs/">logs</a>.</p>
</html>
"""

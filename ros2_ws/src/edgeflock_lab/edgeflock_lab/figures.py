"""The pictures and the page of a drive's report. matplotlib, jinja2 and Pillow are loaded when asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edgeflock.runtime.extras import needs
from edgeflock.runtime.figures import BLUE, GREEN, GREY, ORANGE, VERMILLION, new_figure
from edgeflock_lab.drive_record import Drive, DriveRecord

FULL_SCALE = 0.6  # rad, the steering bar's ends: the limit of the robot
GIF_SIZE = (320, 240)
BAR = (230, 159, 0)  # ORANGE as RGB


def _axes(width: float, height: float):
    figure = new_figure(width, height, "The drive report")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def trajectory_figure(drive: Drive, file: Path) -> None:
    """The path driven over the map, coloured by the distance from the reference path; collisions marked."""
    track, error = drive.track, np.abs(drive.lateral_error)
    around = np.vstack([track, drive.path.points]) if drive.path is not None else track
    low, high = around.min(axis=0) - 3, around.max(axis=0) + 3
    wide, tall = high - low
    figure, axes = _axes(7.2, min(max(1.3 + 5.4 * tall / wide, 3.5), 9.0))
    from matplotlib.collections import LineCollection

    for n, polygon in enumerate(drive.outline):  # two walls or road edges, then what stands around
        axes.fill(*polygon.T, ec="#3c3c3c", fc="none" if n < 2 else "#dcdcdc", lw=0.9, zorder=1)
    if drive.path is not None:
        closed = np.vstack([drive.path.points, drive.path.points[:1]])
        axes.plot(*closed.T, color=GREY, lw=0.8, ls=(0, (4, 4)), zorder=2)
    if len(track) > 1:
        # The scale starts at 0.25 m, the bar that a drive has to stay under, so that two reports compare at a glance.
        span = max(0.25, float(error.max()))
        pieces = list(np.stack([track[:-1], track[1:]], axis=1))
        coloured = LineCollection(pieces, cmap="plasma", lw=3.5, capstyle="round", zorder=3)
        coloured.set_array(error[1:])
        coloured.set_clim(0, span)
        axes.add_collection(coloured)
        figure.colorbar(coloured, label="distance from the reference path (m)", shrink=0.9, aspect=35, pad=0.02)
        axes.plot(*track[0], "o", ms=8, mfc="white", mec="black", zorder=5, label="start")
        axes.plot(*track[-1], "s", ms=8, mfc="black", mec="white", zorder=5, label="end")
    if drive.collisions:
        where = np.array(drive.collisions).T
        axes.plot(*where, "X", ms=13, mfc=VERMILLION, mec="black", ls="", zorder=6, label="collision")
    axes.set_aspect("equal")
    axes.set(xlabel="x (m)", ylabel="y (m)", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    figure.suptitle(headline(drive.record()), fontsize=11)
    if len(track) > 1:
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(file)


def latency_figure(drive: Drive, file: Path) -> None:
    """Histogram of camera stamp to command, with percentiles and the period of the camera."""
    figure, axes = _axes(7.0, 3.6)
    values, figures = drive.latency_ms, drive.record().latency_ms
    period = drive.frame_period_ms
    if len(values) and period:
        right = max(period, float(values.max())) * 1.06
        axes.hist(values, bins=np.linspace(0, right, 90).tolist(), color=BLUE, alpha=0.85)
        axes.set_xlim(0, right)

        def label(text: str, at: float, height: float, color: str) -> None:
            side, gap = ("right", -4) if at > 0.8 * right else ("left", 4)
            axes.annotate(
                text,
                (at, height),
                (gap, 0),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                color=color,
                ha=side,
                va="top",
                bbox={"fc": "white", "ec": "none", "pad": 1},
            )

        for (name, value), height in zip(figures, (0.98, 0.86, 0.74, 0.62), strict=True):
            axes.axvline(value, color="black", lw=1, ls=":")
            label(f"{name} {value:.1f} ms", value, height, "black")
        axes.axvline(period, color=ORANGE, lw=2)
        label(f"one frame {period:.1f} ms", period, 0.42, "#8a5d00")
    axes.set(xlabel=f"{latency_meaning(drive)} (ms)", ylabel="frames")
    figure.savefig(file)


def latency_meaning(drive: Drive) -> str:
    """What the latency of this drive runs from and to."""
    return "arrival of the frame to its command, lock-step" if drive.trace.lockstep else "camera stamp to command"


def headline(record: DriveRecord) -> str:
    """One line that says how the drive went."""
    parts = [f"{record.world} world {record.seed}"] if record.world else ["drive"]
    parts.append(f"{record.duration_s:.0f} s")
    if record.distance_m is not None:
        parts.append(f"{record.distance_m:.1f} m")
    if record.lateral_error_m.rms is not None:
        parts.append(f"lateral error RMS {record.lateral_error_m.rms:.2f} m")
    if record.collisions is not None:
        parts.append({0: "no collision", 1: "1 collision"}.get(record.collisions, f"{record.collisions} collisions"))
    return " · ".join(parts)


def shrink(rgb: np.ndarray) -> np.ndarray:
    """A copy of a frame (H, W, 3) or (H, W) at GIF size (240, 320, 3)."""
    small = cv2.resize(rgb, GIF_SIZE, interpolation=cv2.INTER_AREA)
    return small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)


class CameraMount(NamedTuple):
    """How the robot wears its camera: what it takes to draw on the ground in front of it."""

    forward: float  # m ahead of the rear axle
    height: float  # m above the ground
    pitch: float  # rad, positive looks down
    fovy: float  # rad
    wheelbase: float = 0.36  # m
    width: float = 0.36  # m, of the robot


def ground_to_pixels(points: np.ndarray, view: CameraMount) -> np.ndarray:
    """Pinhole projection to the GIF of ground points (n, 2), m ahead and to the left of the rear axle."""
    ahead, left = points.T - np.array([[view.forward], [0.0]])
    depth = ahead * np.cos(view.pitch) + view.height * np.sin(view.pitch)
    down = view.height * np.cos(view.pitch) - ahead * np.sin(view.pitch)
    width, height = GIF_SIZE
    f = height / 2 / np.tan(view.fovy / 2)
    return np.stack([width / 2 - f * left / depth, height / 2 + f * down / depth], axis=1)


def draw_steering(small: np.ndarray, angle: float, seconds: float, view: CameraMount | None = None) -> np.ndarray:
    """A frame at GIF size with the steering angle drawn in.

    Parameters
    ----------
    small : ndarray (240, 320, 3) uint8
        From `shrink`.
    angle : float
        Front wheel angle, rad, left positive; NaN where there is none.
    seconds : float
        Into the drive.
    view : CameraMount, optional
        Draws the lane that the robot would take as well.
    """
    frame = small.copy()
    width, height = GIF_SIZE
    steered = np.isfinite(angle)
    if steered and view is not None:
        curvature = np.tan(angle) / view.wheelbase
        s = np.linspace(view.forward + 0.35, view.forward + 2.6, 24)
        turned = s * curvature
        middle = np.stack([s * np.sinc(turned / np.pi), s * np.sinc(turned / 2 / np.pi) * np.sin(turned / 2)], axis=1)
        normal = np.stack([-np.sin(turned), np.cos(turned)], axis=1) * view.width / 2
        lane = np.concatenate([middle + normal, (middle - normal)[::-1]])
        lane = lane[lane[:, 0] > view.forward + 0.1]  # a full turn leaves the picture
        painted = frame.copy()
        cv2.fillPoly(painted, [ground_to_pixels(lane, view).astype(np.int32)], BAR, cv2.LINE_AA)
        frame = cv2.addWeighted(painted, 0.45, frame, 0.55, 0)
    middle_px, y, half = width // 2, height - 22, 110
    frame[height - 40 :] = frame[height - 40 :] // 3  # a dark strip: the bar reads on any floor
    cv2.line(frame, (middle_px - half, y), (middle_px + half, y), (150, 150, 150), 1)
    if steered:
        tip = middle_px - round(half * min(max(angle / FULL_SCALE, -1), 1))
        cv2.rectangle(frame, (min(tip, middle_px), y - 6), (max(tip, middle_px), y + 6), BAR, -1)
    cv2.line(frame, (middle_px, y - 9), (middle_px, y + 9), (255, 255, 255), 1)
    side = "no steering" if not steered else "straight" if abs(angle) < 0.005 else "left" if angle > 0 else "right"
    for words, x in ((f"{angle:+.2f} rad {side}" if steered else side, 8), (f"{seconds:5.1f} s", width - 52)):
        cv2.putText(frame, words, (x, height - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
    return frame


def beside(frame: np.ndarray, net: np.ndarray) -> np.ndarray:
    """A frame (240, 320, 3) and to its right what the net saw of it, grey of any size: (240, 528 or less, 3) uint8."""
    size = 200 / max(net.shape)
    net = cv2.resize(net.astype(np.uint8), None, fx=size, fy=size, interpolation=cv2.INTER_NEAREST)
    (rows, columns), height = net.shape, len(frame)
    column = np.full((height, columns + 8, 3), 255, np.uint8)
    column[height - rows :, 8:] = net[..., None]
    words = ("what the net sees", (12, height - rows - 12))
    cv2.putText(column, *words, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
    return np.hstack([frame, column])


def write_gif(frames: list[np.ndarray], file: Path, fps: float = 10) -> None:
    """Write RGB frames (H, W, 3) as a looping GIF."""
    with needs("The GIF of the drive report"):
        from PIL import Image
    # One palette for all frames, from a sample of them: 20 times quicker than one each, and frames differ less.
    sample = Image.fromarray(np.vstack(frames[:: max(1, len(frames) // 8)])[::2, ::2])
    palette = sample.quantize(128, method=Image.Quantize.MEDIANCUT)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    images[0].save(file, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)


def write_poster(gif: list[np.ndarray], file: Path) -> None:
    """Three frames of the GIF beside the trajectory, which has to be there already: the drive in one picture."""
    from PIL import Image

    column = np.vstack([gif[round(share * (len(gif) - 1))] for share in (0.2, 0.5, 0.8)])
    trajectory = Image.open(file.with_name("trajectory.png")).convert("RGB")
    width = round(trajectory.width * len(column) / trajectory.height)
    beside = trajectory.resize((width, len(column)), Image.Resampling.LANCZOS)
    Image.fromarray(np.hstack([column, np.asarray(beside)])).save(file)


def write_posters(folders: Iterable[Path], file: Path) -> None:
    """The posters of several drives, one below the other, 720 px wide; nothing where no folder has one."""
    from PIL import Image

    rows = []
    for poster in (folder / "drive.png" for folder in folders):
        if poster.exists():
            image = Image.open(poster).convert("RGB")
            rows.append(image.resize((720, round(720 * image.height / image.width)), Image.Resampling.LANCZOS))
    if rows:
        Image.fromarray(np.vstack([np.asarray(row) for row in rows])).save(file, optimize=True)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ headline }}</title>
<style>
  body { font: 16px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
  h1 { font-size: 1.35rem } img { max-width: 100% } figure { margin: 1.5rem 0 }
  figcaption { color: #555; font-size: .9rem }
  .top { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start }
  .top img { width: 26rem }
  table { border-collapse: collapse }
  td { padding: .2rem .8rem; border-bottom: 1px solid #ddd }
  td + td { text-align: right; font-variant-numeric: tabular-nums }
  .verdict { color: {{ colour }}; font-weight: 600 }
</style>
<h1>{{ headline }}</h1>
<p class="verdict">{{ verdict }}</p>
<div class="top">
<table>{% for name, value in rows %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}</table>
{% for file, caption in pictures %}
<figure><img src="{{ file }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
{% if loop.first %}</div>{% endif %}
{% endfor %}
<p>The same figures: <a href="{{ record }}">{{ record }}</a>. What each node printed: <a href="logs/">logs</a>.</p>
</html>
"""


def rows(record: DriveRecord) -> list[tuple[str, str]]:
    """The table of the report: (name, value with unit); what does not apply is left out."""
    error, latency = record.lateral_error_m, record.latency_ms
    moving = record.frames > 1 and record.duration_s > 0.01  # one frame has no rate
    table = [
        ("world", f"{record.world}, seed {record.seed}" if record.world else None),
        ("driving time", f"{record.duration_s:.1f} s"),
        ("distance", f"{record.distance_m:.2f} m" if record.distance_m is not None else None),
        ("collisions", record.collisions),
        ("way without collision", f"{record.clear_m:.2f} m" if record.clear_m is not None else None),
        ("lateral error RMS", f"{error.rms:.3f} m" if error.rms is not None else None),
        ("lateral error max", f"{error.max:.3f} m" if error.max is not None else None),
        ("frames", f"{record.frames}" + (f" ({record.frames / record.duration_s:.1f} per second)" if moving else "")),
        ("frames dropped", record.frames_dropped),
        *((f"latency {name}", f"{value:.1f} ms") for name, value in latency if value is not None),
        ("engine", record.engine),
        ("precision", record.precision),
        ("bundle", f"{record.bundle_sha256[:16]}..." if record.bundle_sha256 else None),
    ]
    return [(name, str(value)) for name, value in table if value is not None]


def write_report(drive: Drive, gif: list[np.ndarray], folder: Path) -> DriveRecord:
    """Write drive.json, the pictures and report.html into `folder`; return the record.

    Parameters
    ----------
    drive : Drive
        What was driven.
    gif : list of ndarray (240, width, 3) uint8
        From `draw_steering` and `beside`; empty: no GIF.
    folder : Path
        Must exist.

    Raises
    ------
    MissingExtra
        A package of the extra `report` is missing; drive.json is written all the same.
    """
    record = drive.record()
    record.write(folder / "drive.json")  # first: the figures of a drive outlive a missing plotting extra
    pictures = [("latency.png", f"Latency: {latency_meaning(drive)}")]
    latency_figure(drive, folder / "latency.png")
    if drive.path is not None:
        trajectory_figure(drive, folder / "trajectory.png")
        pictures.insert(0, ("trajectory.png", "The way taken, over the map"))
    if gif:
        write_gif(gif, folder / "drive.gif")
        pictures.insert(
            0, ("drive.gif", "What the robot saw, how it steered, and what the net saw of it, sampled over the run")
        )
    if gif and drive.path is not None:
        write_poster(gif, folder / "drive.png")
    verdict = {None: "Open loop: no world to collide with", 0: "No collision"}.get(record.collisions, "Collision")
    write_page(folder, headline(record), verdict, record.exit_code == 0, rows(record), pictures, "drive.json")
    return record


def write_page(
    folder: Path,
    headline: str,
    verdict: str,
    good: bool,
    rows: list[tuple[str, str]],
    pictures: list[tuple[str, str]],
    record: str,
) -> None:
    """Write report.html: figures by name, pictures with captions, and the file that has the figures too.

    Raises
    ------
    MissingExtra
        jinja2 is not installed.
    """
    with needs("The drive report"):
        import jinja2
    page = jinja2.Environment(autoescape=True).from_string(_PAGE)
    html = page.render(
        headline=headline, verdict=verdict, colour=GREEN if good else VERMILLION, rows=rows, pictures=pictures,
        record=record,
    )  # fmt: skip
    (folder / "report.html").write_text(html, encoding="utf-8")

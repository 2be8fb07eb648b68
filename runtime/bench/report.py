"""Tables, pictures and one HTML page of benchmark records. matplotlib and jinja2 are loaded when asked for."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeflock.runtime.bench.diff import cells
from edgeflock.runtime.bench.pictures import accuracy_figure, at_a_glance, bars_figure, latency_figure, median, shown
from edgeflock.runtime.bench.record import BenchFile, Key, Measured, Missing
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import replacing, write_atomically

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (
    *("engine", "precision", "threads", "scope", "mode", "p50", "p90", "p99", "p99.9", "max", "frames/s"),
    *("dropped", "CPU ms", "MiB", "W", "frames"),
)
_NARROW = ("p50", "p90", "p99", "max", "frames/s", "dropped")


class TableLine(NamedTuple):
    """One line of the table: a key, and the texts of `COLUMNS`."""

    key: Key
    texts: tuple[str, ...]


def rows(files: Iterable[BenchFile]) -> list[TableLine]:
    """The measured cells, ordered by net, board, scope and mode, the fastest first."""
    measured = [(key, cell) for key, cell in cells(files).items() if isinstance(cell, Measured)]
    measured.sort(key=lambda kc: (kc[0].net, kc[0].board, kc[0].scope, kc[0].mode, kc[0].rate_hz or 0, median(kc[1])))
    return [TableLine(key, _texts(key, cell)) for key, cell in measured]


def _texts(key: Key, cell: Measured) -> tuple[str, ...]:
    latency = shown(cell)
    found = [latency.percentiles[name] for name in ("p50", "p90", "p99", "p99_9")]
    percentiles = [f"n < {p.samples_needed}" if p.ms is None else f"{p.ms:.3f}" for p in found]
    # Jetson and RAPL name several rails, of which the input or the package is the sum.
    total = [rail.mean_w for name, rail in cell.power.items() if name.startswith(("VDD_IN", "VIN", "POM_5V_IN"))]
    power = total or [rail.mean_w for name, rail in cell.power.items() if name.startswith(("package", "gpu", "psys"))]
    mode = key.load.partition(", ")[2]
    return (
        key.engine,
        key.precision,
        str(key.threads),
        key.scope,
        mode,
        *percentiles,
        f"{latency.max_ms:.3f}",
        f"{cell.fps:.1f}",
        str(cell.dropped),
        "" if cell.cpu_ms_per_frame is None else f"{cell.cpu_ms_per_frame:.3f}",
        "" if cell.peak_rss_mib is None else f"{cell.peak_rss_mib:.0f}",
        f"{power[0]:.1f}" if power else "",
        str(cell.frames),
    )


def table(files: Iterable[BenchFile]) -> Table:
    """For the terminal, latencies in ms; narrower than the page's."""
    from rich.table import Table

    made, kept = Table(box=None, pad_edge=False), [n for n, column in enumerate(COLUMNS) if column in _NARROW]
    made.add_column("measured", overflow="fold")
    for n in kept:
        made.add_column(COLUMNS[n], justify="right", no_wrap=True)
    for line in rows(files):
        made.add_row(line.key.label, *(line.texts[n] for n in kept))
    return made


def notes(files: Iterable[BenchFile]) -> list[str]:
    """What a reader has to know beside the table: throttling, warm-ups that did not settle, cells that are missing."""
    ordered = sorted(cells(files).items(), key=lambda item: str(item[0]))
    found = not_measured((f"{key.net} on {key.board}, ", cell) for key, cell in ordered if isinstance(cell, Missing))
    for key, cell in ordered:
        if isinstance(cell, Missing):
            continue
        if cell.throttling:
            events = ", ".join(f"{name} {count}" for name, count in cell.throttling.items())
            found.append(f"{key}: throttled: {events}")
        if not cell.warm_up.steady and cell.scope != "chain":
            found.append(f"{key}: still settling after {cell.warm_up.seconds:g} s of warm-up")
        others = [g for g in cell.before.governors if g != "performance"]
        if others:
            found.append(f"{key}: governor {', '.join(others)}: idle clocks slow the first frames down")
        if cell.before.busy_percent > 20:
            found.append(f"{key}: the machine was {cell.before.busy_percent:.0f} % busy before")
    return found


def compared(cells: Sequence[Measured | Missing]) -> list[str]:
    """A line for each cell that was measured beside a command and without it: what that command costs."""
    alone = {cell.key(""): cell for cell in cells if isinstance(cell, Measured) and not cell.beside}
    lines = []
    for cell in cells:
        before = alone.get(cell.key("")._replace(beside=None))
        if isinstance(cell, Measured) and cell.beside and before is not None:
            now, then = (one.latency.percentiles["p99"].ms for one in (cell, before))
            times = ""
            if now is not None and then is not None:
                times = f": p99 {now:.2f} ms, {then:.2f} without, {now / then:.2f} times"
            lost = f"{cell.dropped} of {cell.frames + cell.dropped} frames lost, {before.dropped} without"
            lines.append(f"beside `{cell.beside}`{times}; {lost}")
    return lines


def not_measured(missing: Iterable[tuple[str, Missing]]) -> list[str]:
    """Each reason once, with what it is the reason of.

    Parameters
    ----------
    missing : iterable of (str, Missing)
        What the engine's name follows in the text, and the cell.
    """
    reasons: dict[tuple[str, str, str], set[str]] = {}
    for where, cell in missing:
        reasons.setdefault((where, cell.engine, cell.reason), set()).add(f"{cell.precision} {cell.scope}")
    return [
        f"{where}{engine} ({', '.join(sorted(what))}): not measured: {reason}"
        for (where, engine, reason), what in reasons.items()
    ]


def markdown(files: list[BenchFile]) -> str:
    """One table per net and board, and what to know about them."""
    parts = [
        "# Benchmark",
        "",
        "Made by `edgeflock bench report`; latencies in ms.",
        "",
        "## At a glance",
        "",
        *summary(files),
    ]
    for (net, board), group in groupby(rows(files), key=lambda line: (line.key.net, line.key.board)):
        file = next(f for f in files if f.board.name == board)
        parts += ["", f"## {net} on {board}", "", _machine(file), ""]
        parts.append("| " + " | ".join(COLUMNS) + " |")
        parts.append("| " + " | ".join("---" if n < 5 else "---:" for n in range(len(COLUMNS))) + " |")
        parts += ["| " + " | ".join(line.texts) + " |" for line in group]
    if said := notes(files):
        parts += ["", "## To know", "", *(f"- {note}" for note in said)]
    return "\n".join(parts) + "\n"


SUMMARY_BEGIN, SUMMARY_END = "<!-- edgeflock bench report -->", "<!-- /edgeflock bench report -->"


def summary(files: Iterable[BenchFile]) -> list[str]:
    """Lines of a table, board against board: of each net ONNX Runtime's fp32 and what is fastest, medians."""
    found = cells(files)
    measured = {key: cell for key, cell in found.items() if isinstance(cell, Measured) and key.scope != "chain"}
    lines = [
        "| net | board | ONNX Runtime fp32, ms | fastest, ms | p99, ms | times | by |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for net, board in sorted({(key.net, key.board) for key in measured}):
        mine = at_a_glance({k: c for k, c in measured.items() if (k.net, k.board) == (net, board)})
        if not mine:
            continue
        key, best = next(iter(mine.items()))
        usual = next((c for k, c in mine.items() if (k.engine, k.precision) == ("onnxruntime-cpu", "fp32")), None)
        p99 = best.latency.percentiles["p99"].ms
        cells_of = [
            net,
            board,
            f"{median(usual):.3g}" if usual else "",
            f"{median(best):.3g}",
            f"{p99:.3g}" if p99 is not None else "",
            f"{median(usual) / median(best):.1f}" if usual else "",
            key.unit,
        ]
        lines.append(f"| {' | '.join(cells_of)} |")
    return lines


def write_summary(files: Iterable[BenchFile], page: Path) -> None:
    """Put the summary into a page, between its two marks; InputError where it has none."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"{SUMMARY_BEGIN}\n")
    _, end, after = rest.partition(SUMMARY_END)
    if not begin or not end:
        raise InputError(f"{page}: expected the lines {SUMMARY_BEGIN} and {SUMMARY_END}, between which the table goes.")
    write_atomically(page, "\n".join([before + SUMMARY_BEGIN, "", *summary(files), "", end + after]))


def _machine(file: BenchFile) -> str:
    b = file.board
    parts = [b.model, b.processor, f"{b.cores} cores, {b.memory_gib:g} GiB", b.system, b.jetson_linux or ""]
    versions = ", ".join(f"{name} {version}" for name, version in b.versions.items())
    return "; ".join(part for part in [*parts, versions, f"commit {file.commit}" if file.commit else ""] if part)


def write_report(files: list[BenchFile], out: Path) -> list[Path]:
    """Write benchmark.md, the pictures and benchmark.html, in which the pictures are contained.

    Raises
    ------
    InputError
        No cell was measured.
    MissingExtra
        A package of the extra `report` is missing; benchmark.md is written all the same.
    """
    measured = {key: cell for key, cell in cells(files).items() if isinstance(cell, Measured)}
    if not measured:
        raise InputError("None of the records has a measured cell, only missing ones: " + "; ".join(notes(files)))
    made = [out / "benchmark.md"]
    write_atomically(made[0], markdown(files))
    pictures: list[tuple[str, list[Path]]] = []
    for (net, board), group in groupby(rows(files), key=lambda line: (line.key.net, line.key.board)):
        mine = {line.key: measured[line.key] for line in group}
        stem = out / f"{_slug(net)}-{_slug(board)}"
        drawn = {"latency": bars_figure(mine), "accuracy": accuracy_figure(mine), "percentiles": latency_figure(mine)}
        files_of = [stem.with_name(f"{stem.name}-{name}.png") for name, figure in drawn.items() if figure is not None]
        for path, figure in zip(files_of, filter(None, drawn.values()), strict=True):
            with replacing(path) as draft:
                figure.savefig(draft, format="png")
        pictures.append((f"{net} on {board}", files_of))
        made += files_of
    made.append(out / "benchmark.html")
    write_atomically(made[-1], _page(files, pictures))
    return made


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>edgeflock benchmark</title>
<style>
  body { font: 15px/1.45 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
  h1 { font-size: 1.35rem } h2 { font-size: 1.15rem; margin-top: 2.5rem } img { max-width: 100% }
  .machine { color: #555; font-size: .85rem } .scroll { overflow-x: auto }
  table { border-collapse: collapse; font-size: .85rem }
  td, th { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap }
  td:nth-child(n+6), th:nth-child(n+6) { text-align: right; font-variant-numeric: tabular-nums }
</style>
<h1>edgeflock benchmark</h1>
<p>Latencies in ms. "n &lt; 662": too few frames were measured to state that percentile with 99 % confidence.</p>
{% for part in parts %}
<h2>{{ part.title }}</h2><p class="machine">{{ part.machine }}</p>
<div class="scroll"><table><tr>{% for column in columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for line in part.lines %}<tr>{% for text in line.texts %}<td>{{ text }}</td>{% endfor %}</tr>{% endfor %}
</table></div>
{% for picture in part.pictures %}<p><img alt="{{ part.title }}" src="data:image/png;base64,{{ picture }}"></p>
{% endfor %}
{% endfor %}
{% if notes %}<h2>To know</h2><ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
</html>
"""


def _page(files: list[BenchFile], pictures: list[tuple[str, list[Path]]]) -> str:
    with needs("The benchmark report"):
        import jinja2
    lines = rows(files)
    parts = []
    for title, files_of in pictures:
        mine = [line for line in lines if f"{line.key.net} on {line.key.board}" == title]
        machine = _machine(next(f for f in files if f.board.name == mine[0].key.board))
        images = [base64.b64encode(file.read_bytes()).decode() for file in files_of]
        parts.append({"title": title, "machine": machine, "lines": mine, "pictures": images})
    page = jinja2.Environment(autoescape=True).from_string(_PAGE)
    return page.render(parts=parts, columns=COLUMNS, notes=notes(files))

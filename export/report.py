"""What quantisation did to a net, as JSON, as a table to read and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from edgeflock.export.quantise.search import SearchResult
from edgeflock.runtime.bundle.manifest import Criterion, GateReport
from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.figures import new_figure
from edgeflock.runtime.files import replacing, write_atomically

_ROW = 0.18  # inches of the picture for one layer
_WIDEST = 2.0  # multiples of the limit that the picture shows


def write_report(folder: Path, verdict: GateReport, found: SearchResult) -> list[Path]:
    """Write `<precision>.json`, `<precision>.md` and, where matplotlib is installed, `<precision>.png`.

    Parameters
    ----------
    folder : Path
        Made where missing; a report of the same precision there is replaced.
    verdict : GateReport
        What the gate said.
    found : SearchResult
        What it judged.

    Returns
    -------
    list of Path
        The files.
    """
    data, text, picture = (folder / f"{verdict.precision}.{suffix}" for suffix in ("json", "md", "png"))
    content = {
        "gate": verdict.model_dump() | {"passed": verdict.passed},
        "worst": found.judgement.worst,
        "kept_in_float": found.kept,
        "layers": [asdict(row) for row in found.table],
        "steps": [asdict(step) for step in found.steps],
    }
    write_atomically(data, json.dumps(content, indent=2) + "\n")
    try:
        draw(picture, verdict, found)
        lines, files = [f"![{verdict.precision}]({picture.name})"], [data, text, picture]
    except MissingExtra as missing:
        picture.unlink(missing_ok=True)  # of an earlier report
        lines, files = [f"No picture: {missing}"], [data, text]
    write_atomically(text, "\n".join([*_markdown(verdict, found), "", *lines]) + "\n")
    return files


def _markdown(verdict: GateReport, found: SearchResult) -> list[str]:
    unit = f" {verdict.unit}" if verdict.unit else ""
    lines = [
        f"# {verdict.precision}: {_said(verdict)}",
        "",
        f"{verdict.metric} {verdict.value:.4g}{unit}; fp32 {verdict.fp32:.4g}, constant answer {verdict.constant:.4g}. "
        f"{verdict.data}.",
        "",
        "| the gate demands | limit | got | |",
        "|---|---|---|---|",
    ]
    for c in verdict.criteria:
        lines.append(
            f"| {c.name} | at {c.at} {c.limit:.4g} {c.unit} | {c.value:.4g} | {'' if c.passed else 'FAILED'} |"
        )
    if found.table:
        head = ["layer", "operator", "SQNR alone in INT8, dB"]
        optional = {f"{verdict.metric} then": "score", "gain alone in float, dB": "gain_db"}
        columns = {h: f for h, f in optional.items() if getattr(found.table[0], f) is not None}
        lines += ["", f"| {' | '.join([*head, *columns, 'kept in float'])} |", "|---" * (4 + len(columns)) + "|"]
        for row in sorted(found.table, key=lambda row: row.sqnr_db):
            cells = [row.node, row.op, f"{row.sqnr_db:.1f}", *(f"{getattr(row, f):.4g}" for f in columns.values())]
            lines.append(f"| {' | '.join([*cells, 'yes' if row.node in found.kept else ''])} |")
    if found.steps[1:]:
        lines += ["", "| tried: layers in float | gate | metric |", "|---|---|---|"]
        lines += [f"| {len(s.kept)} | {'passed' if s.passed else 'failed'} | {s.value:.4g} |" for s in found.steps]
    return lines


def draw(path: Path, verdict: GateReport, found: SearchResult) -> None:
    """Draw the layers' SQNR and the gate's criteria against their limits to a picture file.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    rows = max(len(found.table), 4 * len(verdict.criteria))
    figure = new_figure(12 if found.table else 7, 1.5 + _ROW * rows, "The gate's picture")
    if found.table:
        layers, criteria = figure.subplots(1, 2, width_ratios=(3, 2))
        colours = ["tab:orange" if row.node in found.kept else "tab:blue" for row in found.table]
        layers.barh(range(len(found.table)), [row.sqnr_db for row in found.table], color=colours)
        layers.set_yticks(range(len(found.table)), [row.node for row in found.table], fontsize=7)
        layers.set(xlabel="SQNR with this layer alone in INT8, dB", ylim=(len(found.table) - 0.5, -0.5))
        if found.kept:
            layers.set_title(f"orange: {len(found.kept)} kept in float", fontsize=9)
    else:
        criteria = figure.subplots()
    shares = [_share(criterion) for criterion in verdict.criteria]
    colours = ["tab:green" if criterion.passed else "tab:red" for criterion in verdict.criteria]
    criteria.barh(range(len(shares)), shares, color=colours)
    criteria.axvline(1, color="black", linewidth=1)
    criteria.set_yticks([])
    for i, criterion in enumerate(verdict.criteria):
        criteria.text(0.02, i - 0.42, str(criterion), fontsize=7, va="bottom")
    criteria.set(xlabel="share of the limit", xlim=(0, _WIDEST), ylim=(len(shares) - 0.4, -0.9))
    figure.suptitle(f"{verdict.precision}: {_said(verdict)}")
    with replacing(path) as draft:
        figure.savefig(draft, dpi=110, format="png")


def _said(verdict: GateReport) -> str:
    return f"gate {'passed' if verdict.passed else 'FAILED'} on {verdict.samples} samples"


def _share(criterion: Criterion) -> float:
    """How much of a limit is used, 1 at the limit."""
    part, whole = (criterion.value, criterion.limit) if criterion.at == "most" else (criterion.limit, criterion.value)
    if not whole > 0:  # no scale to draw on
        return 0.0 if criterion.passed else _WIDEST
    return float(min(max(part / whole, 0.0), _WIDEST))

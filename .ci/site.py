"""Hooks of mkdocs: pages of the repository's root and of examples/ join the site, and links between them are turned.

A link to a file that is no page (a test, a module) becomes plain text there: the site does not hold the code.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def _outside():
    """Pages that stand outside docs/, as paths of the repository; README's place is taken by docs/index.md."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")]
    return [str(page.relative_to(ROOT)) for page in pages if page.name != "README.md" or page.parent != ROOT]


def on_startup(command, dirty):
    """Link runtime/, calibration/ and export/ to where their package names lead, for the API reference."""
    home = ROOT / "build/site-packages/edgeflock"
    home.mkdir(parents=True, exist_ok=True)
    for room in ("runtime", "calibration", "export"):
        if not (home / room).is_symlink():
            (home / room).symlink_to(ROOT / room)


def on_files(files, config):
    """Add the pages from outside docs/."""
    for page in _outside():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links of the repository into links of the site."""
    own = page.file.src_uri
    here = own if own in _outside() else f"docs/{own}"

    def turn(match):
        text, target, anchor = match[1], match[2], match[3] or ""
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        there = posixpath.normpath(f"{PurePosixPath(here).parent}/{target}")
        there = "docs/index.md" if there == "README.md" else there
        uri = there.removeprefix("docs/")
        if files.get_file_from_path(uri) is None:
            return text
        return f"[{text}]({posixpath.relpath(uri, PurePosixPath(own).parent)}{anchor})"

    fence, lines = False, []
    for line in markdown.split("\n"):
        fence ^= line.lstrip().startswith("```")
        lines.append(line if fence or line.startswith("    ") else LINK.sub(turn, line))
    return "\n".join(lines)

"""What the pages promise exists: commands parse, links and pictures resolve, marked commands run.

A block after ``<!-- run -->`` is run as it stands, by bash in an empty folder; `run: NAME` in the mark gives the extra
module that the block needs. The blocks of one page share the folder, in the page's order.
"""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from edgeflock.runtime.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MARK = re.compile(r"<!-- run(?:: (?P<needs>\w+))? -->")
FENCE = re.compile(r"^( *)(```+)(\w*) *$")
# Outside the repository: a folder of shared files must not be named, for nobody else has it.
OUTSIDE = re.compile(r"\bfacts/\w+\.md|\bfacts \d|\bposts/\w+\.txt|\bredesign\.md|\bDESIGN\.md|\btrials/|\bstyle\.md")

TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".xml", ".cfg", ".msg"}


def name_of(page):
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """Code of a page: its first line's number, its language ("" where indented), the mark above it."""

    page: Path
    line: int
    language: str
    text: str
    mark: re.Match | None

    def __str__(self):
        return f"{name_of(self.page)}:{self.line}"


def blocks(page):
    """Fenced and indented code. Indented text is code after an empty line."""
    lines, mark, at = page.read_text().splitlines(), None, 0
    while at < len(lines):
        line = lines[at]
        fence = FENCE.match(line)
        if fence:
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[2])
            yield Block(page, at + 2, fence[3], "\n".join(s[len(fence[1]) :] for s in lines[at + 1 : end]), mark)
            at, mark = end + 1, None
        elif line.startswith("    ") and at and not lines[at - 1].strip():
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block(page, at + 1, "", "\n".join(s[4:] for s in lines[at:end]), mark)
            at, mark = end, None
        else:
            mark = MARK.search(line) or (mark if not line.strip() else None)
            at += 1


def commands(text, program):
    """Command lines of `program` in shell text: continued lines joined, chains and comments taken apart."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        shell = re.sub(r"\$\([^)]*\)", "", line)  # what the shell would put in
        lexer = shlex.shlex(shell, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        try:
            words = list(lexer)
        except ValueError:  # an apostrophe in prose
            continue
        part = []
        for word in [*words, ";"]:
            if word and set(word) <= set("|&;<>()"):
                while part and re.fullmatch(r"\w+=\S*", part[0]):  # variables set for one command
                    part = part[1:]
                if part and part[0] == program:
                    yield part[1:]
                part = []
            else:
                part.append(word)


def find(words):
    """The command that words name, with its context and the words left for it."""
    command, path = typer.main.get_command(app), ["edgeflock"]
    context = command.make_context("edgeflock", [], resilient_parsing=True)
    words = list(words)
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{' '.join(path)} has no verb {words[0]}"
        path.append(words.pop(0))
        command = found
        context = command.make_context(path[-1], [], parent=context, resilient_parsing=True)
    context.resilient_parsing = False
    return command, context, words


def parse(words):
    """Parse as the command itself would, without running it and without asking for files to exist."""
    command, context, left = find(words)
    if command.help and command.help.startswith("Not available here"):
        pytest.skip(command.help)
    cut = "..." in left  # the page leaves options out
    values, rest, _ = command.make_parser(context).parse_args([w for w in left if w != "..."])
    assert not rest, f"too many arguments: {rest}"
    for parameter in command.params:
        try:
            parameter.handle_parse_result(context, values, [])
        except Exception as error:
            absent = "does not exist" in str(getattr(error, "message", error))
            if not absent and not (cut and type(error).__name__ == "MissingParameter"):
                raise AssertionError(f"{parameter.name}: {getattr(error, 'message', None) or error!r}") from error


LINES = [
    pytest.param(words, id=f"{block}: {' '.join(words)}"[:120])
    for page in PAGES
    for block in blocks(page)
    if block.language in ("", "sh", "bash", "console")
    for words in commands(block.text, "edgeflock")
]


@pytest.mark.parametrize("words", LINES)
def test_every_command_line_is_one_that_the_command_takes(words):
    parse(words)


def spans(page):
    """Inline code that begins with a command: it may be an excerpt, so only its verb and options are looked up."""
    prose = page.read_text()
    for block in blocks(page):
        prose = prose.replace(block.text, "")
    for span in re.findall(r"`(edgeflock [^`]+)`", prose):
        yield re.sub(r"\s+", " ", span)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_named_in_prose_exist_with_the_options_named(page):
    for span in spans(page):
        *verbs, last = span.split("...")[0].split()[1:]
        for alternative in re.split(r"\|", last):
            command, _, left = find([*verbs, alternative])
            if not (command.help or "").startswith("Not available here"):
                known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
                unknown = {word for word in left if word.startswith("--")} - known
                assert not unknown, f"`{span}`: {unknown} of {sorted(known)}"


@pytest.mark.parametrize("words", [pytest.param(["tune", "--hertz", "3"], id="option"),
                                   pytest.param(["tun"], id="verb"),
                                   pytest.param(["emotion"], id="missing"),
                                   pytest.param(["bench", "run", "--seconds", "fast"], id="choice")])  # fmt: skip
def test_a_wrong_command_line_would_be_noticed(words):
    with pytest.raises(Exception, match=r"(?i)hertz|tun|missing|number"):
        parse(words)


def arguments_of(launch):
    """Names that a launch file declares: first arguments, or keys of the module's tables that it declares in a loop."""
    tree = ast.parse(launch.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument":
            names |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    tables = [node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]
    names |= {key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)}
    shared = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "edgeflock_ros.launching"]
    files = [ROOT / "ros2_ws/src/edgeflock_ros" / (n.module.replace(".", "/") + ".py") for n in shared]
    return names.union(*map(arguments_of, files))


LAUNCHES = [
    pytest.param(words, id=f"{block}: {' '.join(words)}"[:120])
    for page in PAGES
    for block in blocks(page)
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines()
    if "ros2 launch" in line and not line.lstrip().startswith("#")
    for words in commands(re.sub(r".*(?=ros2 launch)", "", line).replace("'", ""), "ros2")
]


@pytest.mark.parametrize("words", LAUNCHES)
def test_every_launch_line_gives_arguments_that_its_file_declares(words):
    package, file = words[1:3]
    launch = ROOT / "ros2_ws/src" / package / "launch" / file
    assert launch.is_file()
    assert {word.split(":=")[0] for word in words[3:]} <= arguments_of(launch)


def anchors(page):
    """Anchors of a page's headings, as GitHub and the site make them."""
    code = {n for block in blocks(page) for n in range(block.line, block.line + block.text.count("\n") + 1)}
    seen = set()
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("#") and number not in code:
            slug = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            seen.add(slug)
    return seen


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_an_anchor_that_exist(page):
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{target} leads nowhere"
        assert there.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert not anchor or anchor in anchors(there), f"{target}: {name_of(there)} has {sorted(anchors(there))}"


@pytest.mark.parametrize("page", [p for p in PAGES if "perf" not in p.parts], ids=name_of)
def test_no_line_is_wider_than_140_columns(page):
    """Rows of tables and addresses cannot be broken, and the tables of boards are written by commands."""
    wide = [
        f"{number}: {line[:60]}"
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if len(line) > 140 and not line.lstrip().startswith("|") and "http" not in line
    ]
    written = {block.line + n for block in blocks(page) for n in range(block.text.count("\n") + 1)}
    assert not [line for line in wide if int(line.split(":")[0]) not in written]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_of_the_repository_that_a_page_names_exists(page):
    rooms = r"(?:runtime|calibration|export|tests|ros2_ws|examples)"
    named = re.findall(rf"(?<![\w/.-])({rooms}/[\w./-]+\.(?:py|md|json|yaml|xml|toml|safetensors))\b", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


PROGRAMS = [
    pytest.param(b, id=str(b)) for page in PAGES for b in blocks(page) if re.search(r"^from edgeflock", b.text, re.M)
]


@pytest.mark.parametrize("block", PROGRAMS)
def test_every_name_that_a_program_imports_exists(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("edgeflock"):
            module = importlib.import_module(node.module)
            assert not [name.name for name in node.names if not hasattr(module, name.name)]


def test_nothing_points_to_a_document_outside_the_repository():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    found = []
    for name in filter(None, tracked):
        file = ROOT / name
        if file.suffix in TEXT and file.is_file() and file != Path(__file__):
            lines = enumerate(file.read_text().splitlines(), 1)
            found += [f"{name}:{number}: {line.strip()}" for number, line in lines if OUTSIDE.search(line)]
    assert not found, "name paper and equation, the public source, or a page of docs/:\n" + "\n".join(found)


RUN = {page: [block for block in blocks(page) if block.mark] for page in PAGES}


@pytest.mark.parametrize("page", [page for page, marked in RUN.items() if marked], ids=name_of)
def test_the_marked_commands_run(page, tmp_path):
    for block in RUN[page]:
        if block.mark["needs"]:
            pytest.importorskip(block.mark["needs"])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EDGEFLOCK_BOARD_PROFILE": str(tmp_path / "board.json"),
        "OMP_NUM_THREADS": "1",
    }
    (tmp_path / "here").mkdir()
    for block in RUN[page]:
        program = "python - <<'END'\n" + block.text + "\nEND" if block.language == "python" else block.text
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", program],
            cwd=tmp_path / "here", env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

"""The library's tree in figures and as a picture: rooms, their lines, who imports whom, circles, fragments.

    python -m benchmarks.tree [FOLDER with sdretrieval/] [--svg FILE]

A room is a folder of `sdretrieval/`; `(top)` are the files beside them. Imports inside functions and for type checking
count too. A short private helper is one of at most six lines that its file calls once.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

TOP = "(top)"
HEIGHT, WIDTH, LEFT, BAR = 34, 900, 130, 330


class Tree(NamedTuple):
    """What was found: lines by room; imports (from room, to room) -> how often; circles of files; fragments."""

    lines: dict[str, int]
    imports: Counter[tuple[str, str]]
    circles: list[list[str]]
    files: int
    functions: list[int]
    short_helpers: int


def read_tree(root: Path) -> Tree:
    """Of the package `root`/sdretrieval, by its sources alone."""
    texts = {path.relative_to(root): path.read_text("utf8") for path in sorted((root / "sdretrieval").rglob("*.py"))}
    modules = {_module(path): path for path in texts}
    lines: Counter[str] = Counter()
    between: Counter[tuple[str, str]] = Counter()
    graph: dict[str, set[str]] = defaultdict(set)
    functions, short = [], 0
    for path, text in texts.items():
        parsed = ast.parse(text)
        lines[_room(path)] += text.count("\n")
        for name in {target for target in _imported(parsed, modules) if modules[target] != path}:
            graph[_module(path)].add(name)
            # The package's front door opens the upper rooms by name.
            front = len(path.parts) == 2 and path.stem in ("__init__", "__main__")
            if _room(modules[name]) != _room(path) and not front:
                between[_room(path), _room(modules[name])] += 1
        for node in ast.walk(parsed):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                doc = ast.get_docstring(node, clean=False)
                functions.append(node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0))
                private = node.name.startswith("_") and not node.name.startswith("__")
                if private and node.end_lineno - node.lineno < 7:
                    short += len(re.findall(rf"\b{node.name}\b", text)) == 2
    return Tree(dict(lines.most_common()), between, list(_circles(graph)), len(texts), sorted(functions), short)


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _room(path: Path) -> str:
    return path.parts[1] if len(path.parts) > 2 else TOP


def _imported(parsed: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports, each name of `from x import y` as a module if it is one."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in modules or node.module in modules:
                    yield whole if whole in modules else node.module


def _circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Groups of files that import each other, by way of others too (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            at = stack.index(module)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in number:
            visit(module)
    yield from found


def table(tree: Tree) -> str:
    """The figures as Markdown."""
    total = sum(tree.lines.values())
    rows = [f"| {room} | {count:,} | {count / total:.1%} |" for room, count in tree.lines.items()]
    functions = tree.functions
    return "\n".join(
        [
            "| room | lines | share |", "|---|---|---|", *rows, "",
            f"{total:,} lines in {tree.files} files; {len(functions):,} functions, median "
            f"{functions[len(functions) // 2]} lines, 90th percentile {functions[int(0.9 * len(functions))]}, longest "
            f"{functions[-1]}; {tree.short_helpers} short private helpers with one caller.",
            f"Circles of files: {'; '.join(', '.join(one) for one in tree.circles) or 'none'}.",
        ]
    )  # fmt: skip


def picture(tree: Tree, order: Sequence[str]) -> str:
    """SVG: a bar a room, upper layers first; an arrow for each pair of rooms, red if it points upwards."""
    place = {room: LEFT - 20 + n * HEIGHT for n, room in enumerate(order)}
    most, parts = max(tree.lines.values()), []
    for room in order:
        y, width = place[room], BAR * tree.lines[room] / most
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(room)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{width:.0f}" height="20" rx="3" fill="#6b8fb5"/>'
            f'<text x="{LEFT + width + 6:.0f}" y="{y + 15}" fill="#666">{tree.lines[room]:,}</text>'
        )
    x = LEFT + BAR + 70
    for (source, target), count in sorted(tree.imports.items()):
        a, b = place[source] + 10, place[target] + 10
        colour, bend = "#4a6" if b > a else "#c33", x + 40 + abs(b - a) * 0.45
        parts.append(
            f'<path d="M{x} {a} C{bend:.0f} {a} {bend:.0f} {b} {x} {b}" fill="none" stroke="{colour}" '
            f'stroke-opacity="0.55" stroke-width="{0.6 + count**0.5 / 3:.1f}"/>'
        )
    top, height = LEFT - 35, 30 + len(order) * HEIGHT
    style = "font: 13px sans-serif"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {top} {WIDTH} {height}" style="{style}">'
        f'<rect y="{top}" width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def layered(tree: Tree) -> list[str]:
    """Rooms so that arrows point down as far as they can: those that import most others first."""
    left, order = set(tree.lines), []
    while left:
        # Of those that are left, the room whose imports from the others that are left weigh least.
        weight = {room: sum(n for (a, b), n in tree.imports.items() if b == room and a in left) for room in left}
        first = min(sorted(left), key=lambda room: (weight[room], -tree.lines[room]))
        order.append(first)
        left.discard(first)
    return order


def main() -> None:
    """Print the figures; draw the picture if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--svg", type=Path)
    args = parser.parse_args()
    tree = read_tree(args.folder)
    print(table(tree))
    if args.svg:
        args.svg.write_text(picture(tree, layered(tree)), "utf8")


if __name__ == "__main__":
    main()

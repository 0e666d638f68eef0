"""Flash and RAM of a program by part, from the linker's map; and the depth of its stack.

Standard library only: the firmware's Makefile runs it.
"""

import argparse
import collections
import json
import pathlib
import re
import struct
import sys
from collections.abc import Callable
from typing import Any

# Sections that take flash, and those that take RAM; .data does both.
FLASH = (".text", ".model", ".data")
RAM = (".data", ".bss", ".stack")
PARTS = ("weights", "tokenizer", "kernels", "TFLM core", "TFLM kernels", "application", "libc")
# Members of libtensorflow-microlite.a that are no operator's kernel.
TFLM_CORE = re.compile(
    r"\((micro_|memory_|[a-z_]*arena_buffer|[a-z_]*memory_planner|non_persistent|flatbuffer_|schema_"
    r"|error_reporter|kernel_util|common|tensor_|portable_tensor|quantization_util|runtime_shape"
    r"|system_setup|debug_log)"
)
KIND_TOKENIZER = 5  # of converters/firmware/model_image.py


def part_of(path: str) -> str:
    """Which part an object file belongs to."""
    if path.endswith("/model_image.o"):
        return "weights"
    if re.search(r"\.a\(", path) and not re.search(r"/lib(c|g|m|gcc|stdc\+\+)(_nano)?\.a\(", path):
        return "TFLM core" if TFLM_CORE.search(path) else "TFLM kernels"
    if path.endswith("/embbert_tokenizer.o"):
        return "tokenizer"
    if "/kernels/" in path or path.endswith("/tflm/embbert_scan.o"):
        return "kernels"
    if re.search(r"/(app|boards|tflm|embbert/src)/", path):
        return "application"
    return "libc"  # newlib and libgcc


def read_map(text: str) -> dict[str, collections.Counter]:
    """Bytes by output section and part.

    Args:
      text: A map as GNU ld writes it.

    Returns:
      {output section: Counter of part}; what no object accounts for (alignment) is "application".
    """
    text = text[text.index("Linker script and memory map") :]
    # A long name stands on a line of its own, its numbers on the next.
    text = re.sub(r"^( ?[.\w][^\s]*)\n\s+(0x)", r"\1 \2", text, flags=re.MULTILINE)
    sections: dict[str, collections.Counter] = {}
    totals = {}
    current = None
    for line in text.splitlines():
        output = re.match(r"^(\.\w+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)", line)
        if output:
            current = output[1]
            totals[current] = int(output[2], 16)
            sections[current] = collections.Counter()
            continue
        contribution = re.match(r"^ (?:\.|COMMON)\S*\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+(\S.*)$", line)
        if contribution and current:
            sections[current][part_of(contribution[2])] += int(contribution[1], 16)
    for name, counter in sections.items():
        counter["application"] += totals[name] - sum(counter.values())
    return sections


def tokenizer_bytes(image: bytes) -> int:
    """Bytes of the tokenizer's tables in a model image."""
    (count,) = struct.unpack_from("<I", image, 16)
    for i in range(count):
        kind, _, _, size = struct.unpack_from("<4I", image, 32 + 16 * i)
        if kind == KIND_TOKENIZER:
            return size
    return 0


class CallGraph:
    """Who calls whom with how much stack, by gcc's -fcallgraph-info=su.

    The C library and TFLM are not in it, and of indirect calls only those to commands are known:
    app/main.c calls every one through its table, app/prompt.c two.

    Args:
      folders: Where the .ci files lie, at any depth.
    """

    def __init__(self, folders: list[pathlib.Path]) -> None:
        self.bytes_of: dict[str, int] = {}
        self.calls: dict[str, set[str]] = collections.defaultdict(set)
        # {file of the call: functions that make one}
        indirect: dict[str, set[str]] = collections.defaultdict(set)
        for folder in folders:
            for file in sorted(folder.rglob("*.ci")):
                self._read(file.read_text(), indirect)
        commands = {name for name in self.bytes_of if name.startswith("command_")}
        for caller, targets in {
            "app/main.c": commands,
            "app/prompt.c": commands & {"command_info", "command_bench"},
        }.items():
            for source in indirect[caller]:
                self.calls[source] |= targets
        starts = [name for name in self.bytes_of if name.split(":")[-1] == "start"]
        self.roots = starts or [name for name in self.bytes_of if name == "main"]

    def _read(self, text: str, indirect: dict[str, set[str]]) -> None:
        for title, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]*)"', text):
            size = re.search(r"\\n(\d+) bytes", label)
            if size:
                self.bytes_of[title] = int(size[1])
        for source, target, at in re.findall(
            r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"(?: label: "([^":]*))?', text
        ):
            if target == "__indirect_call":
                indirect[at].add(source)
            else:
                self.calls[source].add(target)

    def deepest(self) -> tuple[int, list[str]]:
        """The deepest path of calls from the reset handler: bytes, and the names along it.

        Raises:
          ValueError: A function calls itself, so that no depth exists.
        """
        return self._path(None, max) or (0, [])

    def to(self, *ends: str) -> tuple[int, int, list[str]] | None:
        """The paths from the reset handler to the callers of some functions.

        Args:
          ends: The functions, which are not counted themselves.

        Returns:
          Bytes of the shallowest and of the deepest, and the names along the deepest; None when
          none leads there.

        Raises:
          ValueError: A function calls itself.
        """
        shallow, deep = self._path(ends, min), self._path(ends, max)
        return (shallow[0], *deep) if shallow and deep else None

    def _path(
        self, ends: tuple[str, ...] | None, choose: Callable[..., Any]
    ) -> tuple[int, list[str]] | None:
        """The path that `choose`, min or max, prefers of those to `ends`, or of all."""
        found: dict[str, tuple[int, list[str]] | None] = {}

        def path(name: str, above: tuple[str, ...]) -> tuple[int, list[str]] | None:
            if name in above:
                raise ValueError(f"{name} calls itself")
            if ends is not None and name in ends:
                return (0, [name])
            if name not in found:
                below = [path(target, (*above, name)) for target in sorted(self.calls[name])]
                best = choose(filter(None, below), default=(0, []) if ends is None else None)
                found[name] = best and (self.bytes_of.get(name, 0) + best[0], [name, *best[1]])
            return found[name]

        reached = [path(name, ()) for name in self.roots]
        return choose(filter(None, reached), default=None)


def print_stack(
    graph: CallGraph, measured: dict[str, int] | None, with_tflm: bool
) -> dict[str, int | None]:
    """Prints the depth of the stack; returns it, computed and measured.

    TFLM's library says nothing of its stack, so that its share is what was measured less the
    shallowest path that leads into it, under the deepest path that does.

    Args:
      graph: Of everything but TFLM and the C library.
      measured: What the program itself says, if it can be run.
      with_tflm: Whether the program calls TFLM.
    """
    used = measured["stack_used"] if measured else None
    computed: int | None = None
    what, path = "computed", [""]
    try:
        computed, path = graph.deepest()
        if with_tflm:
            inside = graph.to("embbert_backend_open", "embbert_backend_infer")
            if inside is None or used is None:
                computed = None
            elif used - inside[0] + inside[1] > computed:
                computed, path = used - inside[0] + inside[1], inside[2]
                what = "computed, TFLM's share by measuring"
    except ValueError as error:
        print(f"stack: cannot be computed, {error}")
    else:
        if computed is None:
            print("stack: not computed, for TFLM says nothing of its own; `info` measures it")
        else:
            print(f"stack, {what}: {computed} bytes: {' > '.join(n.split(':')[-1] for n in path)}")
    result: dict[str, int | None] = {"stack_computed": computed}
    if measured:
        print(f"stack, measured: {used} of {measured['stack_size']} bytes")
        result["stack_measured"] = used
    figures = [figure for figure in result.values() if figure is not None]
    result["stack_bytes"] = max(figures, default=None)
    if figures:
        print(f"stack, to set aside: {result['stack_bytes']} bytes, and what interrupts push")
    return result


def by_part(
    sections: dict[str, collections.Counter], columns: list[str]
) -> dict[str, dict[str, int]]:
    """Returns bytes by part and section; the stack is listed apart, as it serves all."""
    parts = (PARTS[0], "tokenizer tables", *PARTS[1:])
    rows = {part: {name: sections[name][part] for name in columns} for part in parts}
    rows["application"][".stack"] = 0
    return rows


def print_table(
    rows: dict[str, dict[str, int]], columns: list[str], stack: int
) -> tuple[dict, dict]:
    """Prints the table of sizes; returns flash and RAM by part."""
    flash_of = {part: sum(row[n] for n in columns if n in FLASH) for part, row in rows.items()}
    ram_of = {part: sum(row[n] for n in columns if n in RAM) for part, row in rows.items()}
    print(f"{'bytes':18}" + "".join(f"{title:>10}" for title in [*columns, "flash", "RAM"]))
    for part, row in rows.items():
        if not part.startswith("TFLM") or flash_of[part]:
            sizes = [*(row[name] for name in columns), flash_of[part], ram_of[part]]
            print(f"{part:18}" + "".join(f"{size:10d}" for size in sizes))
    blank = " " * (10 * len(columns))
    print(f"{'stack':18}{blank}{0:10d}{stack:10d}")
    flash, ram = sum(flash_of.values()), sum(ram_of.values()) + stack
    print(f"{'all':18}{blank}{flash:10d}{ram:10d}")
    return flash_of, ram_of


def report(arguments: argparse.Namespace) -> dict:
    """Prints sizes and stack of a program; returns them."""
    sections = read_map(arguments.map.read_text())
    tables = tokenizer_bytes(arguments.image.read_bytes())
    for counter in sections.values():
        if counter["weights"] >= tables:
            counter["weights"] -= tables
            counter["tokenizer tables"] += tables
    columns = list(dict.fromkeys(name for name in (*FLASH, *RAM) if name in sections))
    stack = sum(sections.get(".stack", {}).values())
    flash_of, ram_of = print_table(by_part(sections, columns), columns, stack)
    flash = sum(flash_of.values())
    code = flash - flash_of["weights"] - flash_of["tokenizer tables"]
    print(f"code and constants without weights and tokenizer tables: {code}")
    result = {
        "target": arguments.target,
        "compiler": arguments.compiler,
        "flash_bytes": flash,
        "ram_bytes": sum(ram_of.values()) + stack,
        "flash": flash_of,
        "ram": {**ram_of, "stack": stack},
        "code_bytes": code,
    }
    measured = None
    if arguments.measured.startswith("{"):
        measured = json.loads(arguments.measured.strip().splitlines()[-1])
    graph = CallGraph(arguments.stack_usage)
    return result | print_stack(graph, measured, flash_of["TFLM core"] > 0)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--map", type=pathlib.Path, required=True)
    parser.add_argument("--image", type=pathlib.Path, required=True)
    parser.add_argument("--stack_usage", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--target", required=True)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--measured", default="", help="the program's own line of JSON")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    if arguments.target == "host":
        print("size: a host program's sections say nothing about a device; take a board")
        return 1
    result = report(arguments)
    print(json.dumps(result))
    if arguments.json is not None:
        temporary = arguments.json.with_name(arguments.json.name + ".tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

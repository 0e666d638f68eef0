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
    if "/kernels/" in path:
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


def computed_stack(folders: list[pathlib.Path]) -> tuple[int, list[str]]:
    """The deepest path of calls from the reset handler, by gcc's -fcallgraph-info=su.

    The C library is not in these graphs, and of indirect calls only those to commands are known:
    app/main.c calls every one through its table, app/prompt.c two.

    Returns:
      Bytes, and the names along the path.

    Raises:
      ValueError: a function calls itself, so that no depth exists.
    """
    bytes_of: dict[str, int] = {}
    calls = collections.defaultdict(set)
    indirect = collections.defaultdict(set)  # {file of the call: functions that make one}
    for folder in folders:
        for file in sorted(folder.rglob("*.ci")):
            text = file.read_text()
            for title, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]*)"', text):
                size = re.search(r"\\n(\d+) bytes", label)
                if size:
                    bytes_of[title] = int(size[1])
            for source, target, at in re.findall(
                r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"(?: label: "([^":]*))?', text
            ):
                if target == "__indirect_call":
                    indirect[at].add(source)
                else:
                    calls[source].add(target)
    commands = {name for name in bytes_of if name.startswith("command_")}
    for file, targets in {
        "app/main.c": commands,
        "app/prompt.c": commands & {"command_info", "command_bench"},
    }.items():
        for source in indirect[file]:
            calls[source] |= targets
    depth: dict[str, tuple[int, list[str]]] = {}

    def deepest(name: str, above: tuple[str, ...]) -> tuple[int, list[str]]:
        if name in above:
            raise ValueError(f"{name} calls itself")
        if name not in depth:
            below = max(
                (deepest(target, (*above, name)) for target in sorted(calls[name])),
                default=(0, []),
            )
            depth[name] = (bytes_of.get(name, 0) + below[0], [name, *below[1]])
        return depth[name]

    roots = [name for name in bytes_of if name.split(":")[-1] in ("start", "main")]
    return max((deepest(name, ()) for name in roots), default=(0, []))


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
    try:
        computed, path = computed_stack(arguments.stack_usage)
        print(f"stack, computed: {computed} bytes: {' > '.join(n.split(':')[-1] for n in path)}")
    except ValueError as error:
        print(f"stack: cannot be computed, {error}")
        computed = None
    result = {
        "target": arguments.target,
        "compiler": arguments.compiler,
        "flash_bytes": flash,
        "ram_bytes": sum(ram_of.values()) + stack,
        "flash": flash_of,
        "ram": {**ram_of, "stack": stack},
        "code_bytes": code,
        "stack_computed": computed,
    }
    if arguments.measured.startswith("{"):
        measured = json.loads(arguments.measured.strip().splitlines()[-1])
        print(f"stack, measured: {measured['stack_used']} of {measured['stack_size']} bytes")
        result["stack_measured"] = measured["stack_used"]
    return result


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

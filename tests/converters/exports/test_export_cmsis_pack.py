"""CMSIS-Pack: the description has what a pack must have, and its components make a program."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from tests.support.exports import ARM, KINDS, QEMU, check_sizes, export, kind, shell

yaml = pytest.importorskip("ruamel.yaml", reason="pip install ruamel.yaml")
# What the schema restricts the names of packs and vendors to.
RESTRICTED = re.compile(r"[\-_A-Za-z0-9]+")
VECTORS = """#include <stdint.h>
extern void _start(void);
extern const uintptr_t embbert_vectors[2];
__attribute__((section(".vectors"))) const uintptr_t embbert_vectors[2] = {
    0x20400000u, (uintptr_t)_start};
"""


@pytest.fixture(scope="module", params=["snips", "pair_score"])
def pack(request, tmp_path_factory, snips):
    """A pack's folder, its parsed description, and the model."""
    base = tmp_path_factory.mktemp("pack")
    model = snips if request.param == "snips" else kind(request.param, base / "models")
    export(model.image, base / "pack", name=request.param, ecosystem="cmsis_pack")
    path = base / f"pack/EmbBERT.{request.param}.pdsc"
    return base / "pack", ElementTree.parse(path).getroot(), model


def test_the_description_has_the_required_fields(pack):
    _, root, model = pack
    assert root.tag == "package" and re.fullmatch(r"1\.7\.\d+", root.attrib["schemaVersion"])
    for field in ("name", "vendor", "description", "url"):
        assert root.findtext(field)
    assert root.findtext("name") == model.name
    assert RESTRICTED.fullmatch(root.findtext("vendor")) and RESTRICTED.fullmatch(model.name)
    (release,) = root.findall("releases/release")
    assert re.fullmatch(r"\d+\.\d+\.\d+", release.attrib["version"]) and release.text
    for component in root.findall("components/component"):
        assert {"Cclass", "Cgroup", "Csub", "Cversion"} <= set(component.attrib)
        assert component.attrib["Cversion"] == release.attrib["version"]
        assert component.findtext("description")
    conditions = {condition.attrib["id"] for condition in root.findall("conditions/condition")}
    used = [node.attrib["condition"] for node in root.iter() if "condition" in node.attrib]
    assert set(used) == conditions


def test_every_file_of_the_pack_exists_and_every_source_is_in_it(pack):
    folder, root, _ = pack
    named = [file.attrib["name"] for file in root.iter("file")]
    assert all((folder / name).exists() for name in [*named, root.findtext("license")])
    there = {str(path.relative_to(folder)) for path in (folder / "src").rglob("*.c")}
    assert there == {name for name in named if name.endswith(".c")}
    (example,) = root.findall("examples/example")
    project = folder / example.attrib["folder"]
    assert (project / example.attrib["doc"]).is_file()  # which is copied with the example alone
    (environment,) = example.findall("project/environment")
    solution = project / environment.attrib["load"]
    reader = yaml.YAML(typ="safe")
    (of_solution,) = reader.load(solution)["solution"]["projects"]
    content = reader.load(project / of_solution["project"])["project"]
    (source,) = content["groups"][0]["files"]
    assert (project / source["file"]).is_file()
    ids = {
        f"{root.findtext('vendor')}::" + ":".join(c.attrib[k] for k in ("Cclass", "Cgroup", "Csub"))
        for c in root.findall("components/component")
    }
    assert ids <= {component["component"] for component in content["components"]}


def test_the_components_and_the_example_answer_on_a_cortex_m4(pack, tmp_path):
    folder, root, model = pack
    (tmp_path / "vectors.c").write_text(VECTORS)
    files = [(file.attrib["category"], folder / file.attrib["name"]) for file in root.iter("file")]
    sources = [str(path) for category, path in files if category == "sourceC"]
    includes = {f"-I{path}" for category, path in files if category == "include"}
    words = [*sorted(includes), *sources, str(folder / "examples/classify/main.c"), "vectors.c"]
    shell(f"{ARM} -std=gnu11 -Os -Wall -Wextra -Werror {' '.join(words)} -o program.elf", tmp_path)
    printed = shell(f"{QEMU} program.elf", tmp_path, model.inputs)
    assert printed.splitlines() == model.outputs
    if model.name == "snips":
        check_sizes("cmsis_pack", tmp_path / "program.elf")


def test_descriptions_of_all_kinds_are_xml(tmp_path):
    for name in KINDS:
        model = kind(name, tmp_path / "models")
        export(model.image, tmp_path / name, name=name, ecosystem="cmsis_pack")
        ElementTree.parse(tmp_path / name / f"EmbBERT.{name}.pdsc")

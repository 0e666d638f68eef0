"""What an export holds for each ecosystem, and where the library's files go in it."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Ecosystem:
    """How one ecosystem wants its files.

    Attributes:
        title: What it is called in a sentence.
        files: {template: path in the export}; "{name}" in a path stands for the model's name.
        example: The template that is the example.
        include: Folder of the public headers.
        sources: Folder of the library's sources, which keeps their subfolders.
        model: Folder of the model's source.
        model_include: Folder of the model's header.
        of_library: {file of the library that is no C: path in the export}.
    """

    title: str
    files: Mapping[str, str]
    example: str = "stdio.c.j2"
    include: str = "include"
    sources: str = "src"
    model: str = "src"
    model_include: str = "include"
    of_library: Mapping[str, str] = dataclasses.field(default_factory=dict)


_QEMU = {"qemu_vectors.c.j2": "example/qemu_vectors.c"}

ECOSYSTEMS = {
    "c": Ecosystem(
        "a program in plain C",
        {"stdio.c.j2": "example/main.c", **_QEMU},
        include="embbert/include",
        sources="embbert/src",
        model=".",
        model_include=".",
        of_library={"embbert.mk": "embbert/embbert.mk"},
    ),
    "cmake": Ecosystem(
        "CMake",
        {
            "stdio.c.j2": "example/main.c",
            "cmake/CMakeLists.txt.j2": "CMakeLists.txt",
            "cmake/config.cmake.in.j2": "cmake/{name}Config.cmake.in",
            "cmake/cortex-m4.cmake.j2": "cmake/cortex-m4.cmake",
            **_QEMU,
        },
    ),
    "arduino": Ecosystem(
        "Arduino",
        {
            "arduino/classify.ino.j2": "examples/classify/classify.ino",
            "arduino/library.properties.j2": "library.properties",
            "arduino/keywords.txt.j2": "keywords.txt",
        },
        example="arduino/classify.ino.j2",
        include="src",
        model_include="src",
    ),
    "platformio": Ecosystem(
        "PlatformIO",
        {
            "stdio.c.j2": "examples/classify/src/main.c",
            "platformio/library.json.j2": "library.json",
            "platformio/platformio.ini.j2": "examples/classify/platformio.ini",
        },
    ),
    "zephyr": Ecosystem(
        "Zephyr",
        {
            "zephyr/main.c.j2": "samples/classify/src/main.c",
            "zephyr/module.yml.j2": "zephyr/module.yml",
            "zephyr/Kconfig.j2": "zephyr/Kconfig",
            "zephyr/CMakeLists.txt.j2": "zephyr/CMakeLists.txt",
            "zephyr/sample.cmake.j2": "samples/classify/CMakeLists.txt",
            "zephyr/prj.conf.j2": "samples/classify/prj.conf",
            "zephyr/sample.yaml.j2": "samples/classify/sample.yaml",
        },
        example="zephyr/main.c.j2",
    ),
    "esp_idf": Ecosystem(
        "ESP-IDF",
        {
            "esp_idf/main.c.j2": "examples/classify/main/main.c",
            "esp_idf/CMakeLists.txt.j2": "CMakeLists.txt",
            "esp_idf/idf_component.yml.j2": "idf_component.yml",
            "esp_idf/project.cmake.j2": "examples/classify/CMakeLists.txt",
            "esp_idf/main.cmake.j2": "examples/classify/main/CMakeLists.txt",
            "esp_idf/main_component.yml.j2": "examples/classify/main/idf_component.yml",
            "esp_idf/sdkconfig.defaults.j2": "examples/classify/sdkconfig.defaults",
        },
        example="esp_idf/main.c.j2",
    ),
    "cmsis_pack": Ecosystem(
        "CMSIS-Pack",
        {
            "stdio.c.j2": "examples/classify/main.c",
            "cmsis_pack/pack.pdsc.j2": "EmbBERT.{name}.pdsc",
            "cmsis_pack/classify.md.j2": "examples/classify/README.md",
            "cmsis_pack/classify.csolution.yml.j2": "examples/classify/classify.csolution.yml",
            "cmsis_pack/classify.cproject.yml.j2": "examples/classify/classify.cproject.yml",
        },
    ),
}

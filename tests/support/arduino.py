"""A minimal platform of Arduino: the emulated Cortex-M4, whose serial port is the debugger's."""

import pathlib

BOARDS = "m4.name=Emulated Cortex-M4\nm4.build.core=m4\nm4.build.board=M4\n"
_CPU = "-mcpu=cortex-m4 -mthumb -Os -ffunction-sections -fdata-sections"
_DEFINES = "-DARDUINO={runtime.ide.version} -DARDUINO_ARCH_{build.arch}"
PLATFORM = f"""name=Emulated boards
version=1.0.0
compiler.warning_flags=-Wall -Wextra
recipe.c.o.pattern=arm-none-eabi-gcc -c {_CPU} -std=gnu11 {{compiler.warning_flags}} {_DEFINES} \
{{includes}} "{{source_file}}" -o "{{object_file}}"
recipe.cpp.o.pattern=arm-none-eabi-g++ -c {_CPU} -std=gnu++11 -fno-exceptions -fno-rtti \
{{compiler.warning_flags}} {_DEFINES} {{includes}} "{{source_file}}" -o "{{object_file}}"
recipe.ar.pattern=arm-none-eabi-ar rcs "{{archive_file_path}}" "{{object_file}}"
recipe.c.combine.pattern=arm-none-eabi-gcc {_CPU} --specs=rdimon.specs \
-Wl,--gc-sections,-u,embbert_vectors,--section-start=.vectors=0 {{object_files}} \
"{{build.path}}/{{archive_file}}" -o "{{build.path}}/{{build.project_name}}.elf"
recipe.size.pattern=arm-none-eabi-size -A "{{build.path}}/{{build.project_name}}.elf"
recipe.size.regex=^(?:\\.text)\\s+([0-9]+).*
recipe.preproc.macros=arm-none-eabi-g++ -w -x c++ -E -CC {_CPU} -std=gnu++11 {_DEFINES} \
{{includes}} "{{source_file}}" -o "{{preprocessed_file_path}}"
tools.ctags.path=/usr/bin
tools.ctags.cmd.path={{path}}/arduino-ctags
tools.ctags.pattern="{{cmd.path}}" -u --language-force=c++ -f - --c++-kinds=svpf \
--fields=KSTtzns --line-directives "{{source_file}}"
"""
ARDUINO_H = r"""#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

void setup();
void loop();

class SerialPort {
 public:
  void begin(unsigned long) {}
  void setTimeout(unsigned long) {}
  size_t readBytesUntil(char end, char* bytes, size_t capacity);
  void print(const char* text) { fputs(text, stdout); }
  void println(const char* text) { puts(text); }
  void print(double value, int digits) { printf("%.*f", digits, value); }
  void println(double value, int digits) { printf("%.*f\n", digits, value); }
};
extern SerialPort Serial;
"""
MAIN_CPP = r"""#include <Arduino.h>
#include <stdlib.h>

SerialPort Serial;

size_t SerialPort::readBytesUntil(char end, char* bytes, size_t capacity) {
  size_t count = 0;
  for (int byte = 0; count < capacity; bytes[count++] = (char)byte) {
    byte = getchar();
    if (byte == EOF) exit(0);
    if (byte == end) break;
  }
  return count;
}

int main() {
  setup();
  for (;;) loop();
}
"""
VECTORS_C = """#include <stdint.h>
extern void _start(void);
__attribute__((section(".vectors"))) const uintptr_t embbert_vectors[2] = {
    0x20400000u, (uintptr_t)_start};
"""


def write_platform(folder: pathlib.Path) -> None:
    """Writes the platform into a `hardware` folder."""
    files = {
        "boards.txt": BOARDS,
        "platform.txt": PLATFORM,
        "cores/m4/Arduino.h": ARDUINO_H,
        "cores/m4/main.cpp": MAIN_CPP,
        "cores/m4/vectors.c": VECTORS_C,
    }
    for name, content in files.items():
        path = folder / "embbert/arm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

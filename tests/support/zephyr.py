"""As much of Zephyr's build as a module needs: its CMake functions, and a console.

The application and its modules are compiled for the emulated Cortex-M4. As with Zephyr itself,
whole archives are linked, so that two copies of a function would clash.
"""

import pathlib

_CONFIG_CMAKE = r"""
project(Zephyr-Kernel C)
file(STRINGS ${CMAKE_SOURCE_DIR}/prj.conf LINES REGEX "^CONFIG_")
foreach(LINE ${LINES})
  string(REGEX MATCH "^(CONFIG_[A-Za-z0-9_]+)=(.*)$" FOUND "${LINE}")
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()

function(zephyr_library_named name)
  add_library(${name} STATIC)
  target_link_libraries(${name} PUBLIC zephyr_interface)
  set_property(GLOBAL APPEND PROPERTY ZEPHYR_LIBS ${name})
  set(ZEPHYR_CURRENT_LIBRARY ${name} PARENT_SCOPE)
endfunction()
macro(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_compile_options)
  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
function(zephyr_include_directories)
  foreach(FOLDER ${ARGN})
    get_filename_component(FOLDER ${FOLDER} ABSOLUTE)
    target_include_directories(zephyr_interface INTERFACE ${FOLDER})
  endforeach()
endfunction()

add_library(zephyr_interface INTERFACE)
target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_LIST_DIR}/include)
target_compile_options(zephyr_interface INTERFACE -Wall -Wextra -Werror)
zephyr_library_named(app)
foreach(MODULE ${ZEPHYR_EXTRA_MODULES})
  get_filename_component(NAME ${MODULE} ABSOLUTE)
  string(MD5 ID ${NAME})
  file(STRINGS ${MODULE}/zephyr/module.yml CMAKE REGEX "^  cmake: ")
  string(REPLACE "  cmake: " "" CMAKE ${CMAKE})
  add_subdirectory(${MODULE}/${CMAKE} ${CMAKE_BINARY_DIR}/modules/${ID})
endforeach()
get_property(LIBS GLOBAL PROPERTY ZEPHYR_LIBS)
add_executable(zephyr.elf ${CMAKE_CURRENT_LIST_DIR}/kernel.c)
target_link_libraries(zephyr.elf PRIVATE zephyr_interface -Wl,--whole-archive ${LIBS}
                                         -Wl,--no-whole-archive)
"""
_TOOLCHAIN_CMAKE = """
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -Os")
set(CMAKE_EXE_LINKER_FLAGS_INIT
    "--specs=rdimon.specs -Wl,-u,embbert_vectors,--section-start=.vectors=0")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""
_KERNEL_C = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zephyr/console/console.h>

extern void _start(void);
extern const uintptr_t embbert_vectors[2];
__attribute__((section(".vectors"))) const uintptr_t embbert_vectors[2] = {
    0x20400000u, (uintptr_t)_start};

void console_getline_init(void) {}

char* console_getline(void) {
  static char line[4096];
  if (fgets(line, sizeof(line), stdin) == NULL) exit(0);
  line[strcspn(line, "\r\n")] = '\0';
  return line;
}
"""
_KERNEL_H = """#include <stddef.h>
#include <stdint.h>
#include <zephyr/sys/printk.h>
#define K_FOREVER (-1)
struct k_msgq {
  size_t bytes;
};
#define K_MSGQ_DEFINE(name, size, count, alignment) struct k_msgq name = {(size) * (count)}
#define K_THREAD_DEFINE(name, stack, entry, a, b, c, priority, options, delay) \\
  void (*const name)(void*, void*, void*) = (stack) > 2048 ? (entry) : NULL
int k_msgq_get(struct k_msgq* queue, void* data, int timeout);
"""
_HEADERS = {
    "zephyr/kernel.h": _KERNEL_H,
    "zephyr/console/console.h": "void console_getline_init(void);\nchar* console_getline(void);\n",
    "zephyr/sys/printk.h": "#include <stdio.h>\n#define printk printf\n",
}
# Symbols of Zephyr's that a sample sets.
KCONFIG = """
config CONSOLE_SUBSYS
	bool "Console"
config CONSOLE_GETLINE
	bool "Lines"
	depends on CONSOLE_SUBSYS
config CONSOLE_INPUT_MAX_LINE_LEN
	int "Longest line"
	default 128
config MAIN_STACK_SIZE
	int "Stack of main"
	default 1024
"""


def write_base(folder: pathlib.Path) -> None:
    """Writes what ZEPHYR_BASE is to name."""
    package = folder / "share/zephyr-package/cmake"
    files = {"ZephyrConfig.cmake": _CONFIG_CMAKE, "kernel.c": _KERNEL_C}
    files |= {f"include/{name}": content for name, content in _HEADERS.items()}
    for name, content in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    (folder / "toolchain.cmake").write_text(_TOOLCHAIN_CMAKE)

"""As much of ESP-IDF's build as a component needs, for the emulated Cortex-M4."""

import pathlib

_PROJECT_CMAKE = r"""
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_C_FLAGS "-mcpu=cortex-m4 -mthumb -Os -Wall -Wextra -Werror")
set(CMAKE_EXE_LINKER_FLAGS "--specs=rdimon.specs -Wl,-u,embbert_vectors,--section-start=.vectors=0")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(IDF ${CMAKE_CURRENT_LIST_DIR})

function(idf_component_register)
  cmake_parse_arguments(COMPONENT "" "" "SRCS;INCLUDE_DIRS;PRIV_REQUIRES" ${ARGN})
  if(COMPONENT_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${COMPONENT_UNPARSED_ARGUMENTS}")
  endif()
  set(COMPONENT_LIB idf_${COMPONENT_NAME})
  add_library(${COMPONENT_LIB} STATIC ${COMPONENT_SRCS})
  target_include_directories(${COMPONENT_LIB} PUBLIC ${COMPONENT_INCLUDE_DIRS}
                                              PRIVATE ${IDF}/include)
  foreach(REQUIRED ${COMPONENT_PRIV_REQUIRES})
    target_link_libraries(${COMPONENT_LIB} PRIVATE idf_${REQUIRED})
  endforeach()
  set(COMPONENT_LIB ${COMPONENT_LIB} PARENT_SCOPE)
endfunction()

macro(project name)
  _project(${name} C)
  foreach(FOLDER ${EXTRA_COMPONENT_DIRS} ${CMAKE_SOURCE_DIR}/main)
    get_filename_component(COMPONENT_NAME ${FOLDER} NAME)
    add_subdirectory(${FOLDER} ${CMAKE_BINARY_DIR}/esp-idf/${COMPONENT_NAME})
  endforeach()
  add_executable(program.elf ${IDF}/startup.c)
  target_link_libraries(program.elf PRIVATE idf_main)
endmacro()
"""
_STARTUP_C = r"""
#include <stdint.h>
#include <stdlib.h>

extern void _start(void);
extern const uintptr_t embbert_vectors[2];
__attribute__((section(".vectors"))) const uintptr_t embbert_vectors[2] = {
    0x20400000u, (uintptr_t)_start};

// The input has ended: nobody will type any more.
void vTaskDelay(uint32_t ticks) { exit((int)ticks - 1); }

void app_main(void);
int main(void) {
  app_main();
  return 0;
}
"""


def write_idf(folder: pathlib.Path) -> None:
    """Writes what IDF_PATH is to name."""
    files = {
        "tools/cmake/project.cmake": _PROJECT_CMAKE,
        "tools/cmake/startup.c": _STARTUP_C,
        "tools/cmake/include/freertos/FreeRTOS.h": "#include <stdint.h>\n",
        "tools/cmake/include/freertos/task.h": "void vTaskDelay(uint32_t ticks);\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

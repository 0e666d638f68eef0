// What the application asks of the place it runs in: a host process or a bare-metal board.
//
// Everything here may be called from the application's one thread only. Nothing allocates.

#ifndef EMBBERT_TFLM_APP_BOARDS_PLATFORM_H_
#define EMBBERT_TFLM_APP_BOARDS_PLATFORM_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Copies the command that the program was started with into `buffer` and terminates it with a zero.
// The command is its words joined by newlines ("run\nturn on the light"). Returns its length,
// 0 when there is none, or -1 when it does not fit into `capacity` bytes.
int32_t platform_command(char* buffer, size_t capacity);

// Writes bytes to the user: the UART or the debugger's console, whichever is selected.
void platform_write(const char* bytes, size_t count);

// Reads one byte from the user and waits for it, with the processor asleep where the board can.
// Returns 0..255, or -1 at the end of the input.
int platform_read_byte(void);

// Selects the console of platform_write and platform_read_byte: the UART (true) or the debugger's
// (false). On the host both are the standard streams. At start: the debugger's where there is one.
void platform_use_uart(bool uart);

// True when the platform does not show what the user types, so that the application has to.
bool platform_wants_echo(void);

// Files on the debugger's machine. A handle is at least 0; every function returns -1 on failure.
int32_t platform_open_read(const char* path);
int32_t platform_open_write(const char* path);
// Reads up to `capacity` bytes and returns how many; 0 at the end of the file.
int32_t platform_read(int32_t handle, void* buffer, size_t capacity);
// Writes all `count` bytes and returns 0.
int32_t platform_write_file(int32_t handle, const void* bytes, size_t count);
int32_t platform_close(int32_t handle);
// Gives a file another name, in place of a file that has it. Returns 0.
int32_t platform_rename(const char* from, const char* to);
int32_t platform_remove(const char* path);

// How many bytes the user's line has lost because nobody read them in time; 0 on the host.
uint32_t platform_lost_bytes(void);

// What work costs on this platform, and is counted in: "instructions", "cycles" or "ticks"; NULL
// where nothing counts (the host).
const char* platform_cost_unit(void);

// A counter, and what has been spent since a reading of it: a constant few for the call, then what
// lay between. Instructions are exact and never wrap. Both 0 where nothing counts.
uint64_t platform_counter(void);
uint64_t platform_cost_since(uint64_t counter);

// The low half of the counter, the fastest to read, and what a sum of its differences means.
uint32_t platform_ticks(void);
uint64_t platform_ticks_to_cost(uint64_t ticks);

// Deepest use of the stack since start in bytes, and its whole size; both 0 where nothing measures
// them (the host).
uint32_t platform_stack_used(void);
uint32_t platform_stack_size(void);

// Bytes of statically allocated RAM (.data and .bss), 0 on the host.
uint32_t platform_static_ram(void);

// Name of the target, e.g. "mps2-an386".
const char* platform_name(void);

// Ends the program; `status` 0 means success.
_Noreturn void platform_exit(int status);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_TFLM_APP_BOARDS_PLATFORM_H_

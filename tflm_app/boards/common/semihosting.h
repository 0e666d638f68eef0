// Arm semihosting: calls that a debugger or an emulator answers for the program.
//
// Source: "Semihosting for AArch32 and AArch64", Arm (github.com/ARM-software/abi-aa, semihosting).
// On M-profile a call is BKPT 0xAB with the operation in r0 and its argument block in r1. Without a
// debugger that instruction faults; the fault handler then skips it and answers -1, which
// semihosting_present() turns into "false", so one binary runs with and without a debugger.

#ifndef EMBBERT_TFLM_APP_BOARDS_COMMON_SEMIHOSTING_H_
#define EMBBERT_TFLM_APP_BOARDS_COMMON_SEMIHOSTING_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Modes of semihosting_open, the numbers of fopen's "rb" and "wb".
enum { kSemihostingReadBinary = 1, kSemihostingWriteBinary = 5 };

// True when something answers semihosting calls. Looks once and remembers.
bool semihosting_present(void);

// Opens `path` and returns a handle, or -1. The path ":tt" is the console.
int32_t semihosting_open(const char* path, int32_t mode);
int32_t semihosting_close(int32_t handle);

// Reads up to `count` bytes; returns how many were read, or -1 on failure.
int32_t semihosting_read(int32_t handle, void* buffer, size_t count);

// Returns 0 when all `count` bytes were written, or -1.
int32_t semihosting_write(int32_t handle, const void* bytes, size_t count);

// Gives a file another name, in place of a file that has it; returns 0, or another number.
int32_t semihosting_rename(const char* from, const char* to);
int32_t semihosting_remove(const char* path);

// Copies the command line, zero terminated. Returns its length or -1 when it does not fit.
int32_t semihosting_command_line(char* buffer, size_t capacity);

// Ends the program with an exit status; returns only when nothing answers.
void semihosting_exit(int32_t status);

#endif  // EMBBERT_TFLM_APP_BOARDS_COMMON_SEMIHOSTING_H_

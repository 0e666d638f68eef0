// Runs embbert_scan on the cases of a file and writes every result to another, for
// tests/tflm_app/test_selective_scan.py to compare with converters/kernels/selective_scan.py.
//
// Command: the two paths. A case is int32 words, bytes of options, runs; then options, decay and
// skip; then for each run int32 n, u, steps, B and C. For each run the output has uint32
// instructions and y.
//
// Every buffer has exactly its size and no more than the alignment that the header asks for, with a
// pattern around it (on the host also AddressSanitizer's red zones).

#include <string.h>

#include "../boards/platform.h"
#include "embbert_scan.h"

#ifndef __arm__
#include <stdlib.h>
#endif

enum { kMemory = 256 * 1024, kMostBuffers = 16, kFence = 8, kPattern = 0xA5 };

static uint8_t* fences[kMostBuffers];  // what follows each buffer
static int32_t buffers;
static int32_t input = -1;
static int32_t output = -1;

#ifdef __arm__
static uint8_t memory[kMemory] __attribute__((aligned(16)));
static size_t used;
#endif

_Noreturn static void fail(const char* what) {
  platform_write("scan_test: ", 11);
  platform_write(what, strlen(what));
  platform_write("\n", 1);
  platform_exit(1);
}

// `size` bytes at an address that is a multiple of `alignment`, but not of twice as much.
static uint8_t* allocate(size_t size, size_t alignment) {
  if (buffers == kMostBuffers) fail("too many buffers");
#ifdef __arm__
  uint8_t* const whole = memory + used;
  used = (used + size + alignment + kFence + 15) & ~(size_t)15;
  if (used > kMemory) fail("out of memory");
  memset(whole, kPattern, (size_t)(memory + used - whole));
  fences[buffers++] = whole + alignment + size;
#else
  uint8_t* const whole = (uint8_t*)malloc(size + alignment);
  if (whole == NULL) fail("out of memory");
  fences[buffers++] = whole;
#endif
  return whole + alignment;
}

// Frees all but the first `keep` buffers, after a look behind them.
static void release(int32_t keep) {
  while (buffers > keep) {
    uint8_t* const fence = fences[--buffers];
#ifdef __arm__
    for (int i = 0; i < kFence; i++) {
      if (fence[i] != kPattern) fail("a write behind a buffer");
    }
#else
    free(fence);
#endif
  }
}

static void read_all(void* bytes, size_t count) {
  uint8_t* to = (uint8_t*)bytes;
  while (count > 0) {
    const int32_t got = platform_read(input, to, count);
    if (got <= 0) fail("the file ends within a case");
    to += got;
    count -= (size_t)got;
  }
}

static void* read_buffer(size_t size, size_t alignment) {
  uint8_t* const result = allocate(size, alignment);
  read_all(result, size);
  return result;
}

static void run(const embbert_scan_t* scan) {
  int32_t n;
  read_all(&n, sizeof(n));
  const size_t size = (size_t)n * (size_t)scan->channels;
  const size_t state_size = (size_t)n * (size_t)scan->states;
  const int8_t* const u = (const int8_t*)read_buffer(size, 1);
  const int8_t* const steps = (const int8_t*)read_buffer(size, 1);
  const int8_t* const state_in = (const int8_t*)read_buffer(state_size, 1);
  const int8_t* const state_out = (const int8_t*)read_buffer(state_size, 1);
  int8_t* const y = (int8_t*)allocate(size, 1);
  const size_t scratch_size =
      EMBBERT_SCAN_SCRATCH_BYTES((size_t)scan->channels, (size_t)scan->states);
  uint8_t* const scratch = allocate(scratch_size, 8);
  memset(scratch, 0x5A, scratch_size);  // nothing may depend on what it holds
  const uint64_t begin = platform_counter();
  if (embbert_scan(scan, u, steps, state_in, state_out, n, y, scratch, scratch_size) !=
      EMBBERT_OK) {
    fail("embbert_scan");
  }
  const uint32_t instructions = (uint32_t)platform_cost_since(begin);
  if (platform_write_file(output, &instructions, sizeof(instructions)) < 0 ||
      platform_write_file(output, y, size) < 0) {
    fail("cannot write");
  }
}

int app_main(void);

int app_main(void) {
  char paths[1024];
  if (platform_command(paths, sizeof(paths)) <= 0) fail("no command");
  char* second = strpbrk(paths, "\n ");
  if (second == NULL) fail("give two paths");
  *second++ = '\0';
  input = platform_open_read(paths);
  output = platform_open_write(second);
  if (input < 0 || output < 0) fail("cannot open the files");

  int32_t head[2];
  while (platform_read(input, head, sizeof(head)) == (int32_t)sizeof(head)) {
    embbert_scan_t scan;
    const void* const options = read_buffer((size_t)head[0], 4);
    if (embbert_scan_init(&scan, options, (size_t)head[0]) != EMBBERT_OK) fail("options");
    const size_t channels = 4 * (size_t)scan.channels;
    scan.decay = (const int32_t*)read_buffer(channels * (size_t)scan.states, 4);
    scan.skip = (const int32_t*)read_buffer(channels, 4);
    const int32_t keep = buffers;
#ifdef __arm__
    const size_t kept = used;
#endif
    for (int32_t i = 0; i < head[1]; i++) {
      run(&scan);
      release(keep);
#ifdef __arm__
      used = kept;
#endif
    }
    release(0);
#ifdef __arm__
    used = 0;
#endif
  }
  if (platform_close(output) < 0) fail("cannot close the output");
  platform_exit(0);
}

#ifdef __arm__
int main(void) { return app_main(); }
#endif

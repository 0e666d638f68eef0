// Runs the kernels on the models and inputs of a file and writes every result to another, for
// tests/test_kernels_*.py to compare with converters/kernels/reference.py byte for byte.
//
// Command: the two paths. The input file is a sequence of chunks, each an int32 size and its bytes:
//   int32 number of blocks, max_n; options and weights of embedder, blocks, head in the order of
//   embbert_kernels.h; then for each run ids (uint16) and segments (uint8, or an empty chunk for
//   NULL); at the end of the runs one empty chunk of ids, and then the next model or the file's
//   end.
// For each run the output has int32 status and uint32 instructions of embbert_infer, its logits,
// the profile, then step by step x0, and per block xhat and the output rows, and the head's logits.
//
// Every chunk and buffer has exactly the size and no more than the alignment that the header asks
// for, with a pattern around it (on the host also AddressSanitizer's red zones).

#include <stdbool.h>
#include <string.h>

#include "../boards/platform.h"
#include "embbert_kernels.h"

#ifdef __arm__
#ifndef ARENA_BYTES
#define ARENA_BYTES (440 * 1024)  // what every board has
#endif
static uint8_t arena[ARENA_BYTES] __attribute__((aligned(16)));
static size_t arena_used;
#else
#include <stdlib.h>
#endif

#define MAX_BUFFERS 256
#define FENCE 8

typedef struct {
  uint8_t* data;
  size_t size;
  size_t alignment;
} buffer_t;

static buffer_t buffers[MAX_BUFFERS];
static int buffer_count;
static int32_t input = -1;
static int32_t output = -1;

_Noreturn static void fail(const char* what) {
  platform_write("kernels_test: ", 14);
  platform_write(what, strlen(what));
  platform_write("\n", 1);
  platform_exit(1);
}

// `size` bytes at an address that is `alignment` but not 2 * `alignment` aligned.
static uint8_t* allocate(size_t size, size_t alignment) {
  if (buffer_count == MAX_BUFFERS) fail("too many buffers");
#ifdef __arm__
  const size_t lead = FENCE + 2 * alignment;
  size_t start = (arena_used + lead) & ~(2 * alignment - 1);
  start += alignment;
  if (start + size + FENCE > ARENA_BYTES) fail("the arena is too small");
  memset(&arena[arena_used], 0xA5, start + size + FENCE - arena_used);
  arena_used = start + size;
  uint8_t* const data = &arena[start];
#else
  uint8_t* const data = (uint8_t*)malloc(size + alignment) + alignment;  // malloc aligns to 16
#endif
  buffers[buffer_count++] = (buffer_t){data, size, alignment};
  return data;
}

// Frees all but the first `keep` buffers, after a look at the bytes around them.
static void release(int keep) {
  while (buffer_count > keep) {
    const buffer_t* buffer = &buffers[--buffer_count];
#ifdef __arm__
    for (size_t i = 0; i < FENCE; i++) {
      if (*(buffer->data - 1 - i) != 0xA5) fail("a write before a buffer");
      if (buffer->data[buffer->size + i] != 0xA5) fail("a write behind a buffer");
    }
    arena_used = buffer_count == 0 ? 0
                                   : (size_t)(buffers[buffer_count - 1].data - arena) +
                                         buffers[buffer_count - 1].size;
#else
    free(buffer->data - buffer->alignment);
#endif
  }
}

static bool read_all(void* bytes, size_t count) {
  uint8_t* to = (uint8_t*)bytes;
  while (count > 0) {
    const int32_t got = platform_read(input, to, count);
    if (got <= 0) return false;
    to += got;
    count -= (size_t)got;
  }
  return true;
}

static void write_all(const void* bytes, size_t count) {
  if (count > 0 && platform_write_file(output, bytes, count) < 0) fail("cannot write");
}

// Returns false at the end of the file.
static bool read_chunk(size_t alignment, buffer_t* chunk) {
  int32_t size;
  if (!read_all(&size, sizeof(size))) return false;
  chunk->size = (size_t)size;
  chunk->data = allocate(chunk->size, alignment);
  if (!read_all(chunk->data, chunk->size)) fail("the file ends within a chunk");
  return true;
}

static const void* read_weights(void) {
  buffer_t chunk;
  if (!read_chunk(4, &chunk)) fail("the file ends within a model");
  return chunk.data;
}

static void check(embbert_status_t status, const char* what) {
  if (status != EMBBERT_OK) fail(what);
}

static void read_model(embbert_model_t* model, embbert_block_t* blocks, int32_t num_blocks) {
  buffer_t options;
  if (!read_chunk(4, &options)) fail("no embedder");
  check(embbert_embed_init(&model->embed, options.data, options.size), "embbert_embed_init");
  model->embed.token = read_weights();
  model->embed.position = read_weights();
  model->embed.weight = read_weights();
  model->embed.bias = read_weights();
  for (int32_t i = 0; i < num_blocks; i++) {
    embbert_block_t* const block = &blocks[i];
    if (!read_chunk(4, &options)) fail("no block");
    check(embbert_block_init(block, options.data, options.size), "embbert_block_init");
    block->wq = read_weights();
    block->bq = read_weights();
    block->wv = read_weights();
    block->conv = read_weights();
    block->conv_bias = read_weights();
    block->wz = read_weights();
    block->bz = read_weights();
  }
  if (!read_chunk(4, &options)) fail("no head");
  check(embbert_head_init(&model->head, options.data, options.size), "embbert_head_init");
  model->head.weight = read_weights();
  model->head.bias = read_weights();
  model->blocks = blocks;
  model->num_blocks = num_blocks;
}

// Run `number` of a case. Its inference as a whole has scratch to spare, but for the first run's.
static void run(const embbert_model_t* model, const uint16_t* ids, const uint8_t* segments,
                int32_t n, size_t number) {
  static const size_t kSpare[] = {0, 40000, 5, 1544, 7000};
  const size_t d = (size_t)model->embed.hidden;
  const size_t labels = (size_t)model->head.labels;
  int8_t* a = (int8_t*)allocate(embbert_buffer_size(model, n), 8);
  int8_t* b = (int8_t*)allocate(embbert_buffer_size(model, n), 8);
  const size_t scratch_size = embbert_scratch_size(model, n);
  uint8_t* const scratch = allocate(scratch_size, 8);
  const size_t more_size = scratch_size + kSpare[number % (sizeof(kSpare) / sizeof(kSpare[0]))];
  uint8_t* const more = allocate(more_size, 8);
  int8_t* const logits = (int8_t*)allocate(labels, 1);
  memset(scratch, 0x5A, scratch_size);  // nothing may depend on what scratch or buffers hold
  memset(more, 0x5A, more_size);
  memset(b, 0x5A, embbert_buffer_size(model, n));

#ifdef EMBBERT_PROFILE
  memset(embbert_profile, 0, sizeof(embbert_profile));
#endif
  const uint64_t begin = platform_counter();
  const int32_t status =
      (int32_t)embbert_infer(model, ids, segments, n, a, b, more, more_size, logits, NULL);
  const uint32_t instructions = (uint32_t)platform_cost_since(begin);
  write_all(&status, sizeof(status));
  write_all(&instructions, sizeof(instructions));
  write_all(logits, labels);
#ifdef EMBBERT_PROFILE
  for (int i = 0; i < EMBBERT_STEPS; i++) {
    const uint32_t step = embbert_profile[i];
    write_all(&step, sizeof(step));
  }
#endif

  check(embbert_embed(&model->embed, ids, segments, n, a), "embbert_embed");
  write_all(a, (size_t)n * d);
  for (int32_t i = 0; i < model->num_blocks; i++) {
    const embbert_block_t* const block = &model->blocks[i];
    const int32_t rows = i == model->num_blocks - 1 ? 1 : n;
    const size_t size = embbert_block_scratch_size(block, n);
    check(embbert_block(block, a, n, rows, b, scratch + scratch_size - (size & ~(size_t)7),
                        size & ~(size_t)7, NULL),
          "embbert_block");
    write_all(a, (size_t)n * d);
    write_all(b, (size_t)rows * d);
    int8_t* const swap = a;
    a = b;
    b = swap;
  }
  memset(logits, 0x5A, labels);
  check(embbert_head(&model->head, a, logits), "embbert_head");
  write_all(logits, labels);
}

#ifdef EMBBERT_PROFILE
uint32_t embbert_clock(void) { return platform_ticks(); }

uint32_t embbert_clock_units(uint32_t ticks) { return (uint32_t)platform_ticks_to_cost(ticks); }
#endif

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
  write_all(embbert_implementation, 8);

  int32_t head[2];
  while (read_all(head, sizeof(head))) {
    static embbert_block_t blocks[EMBBERT_MAX_BLOCKS];
    embbert_model_t model;
    if (head[0] < 1 || head[0] > EMBBERT_MAX_BLOCKS) fail("too many blocks");
    read_model(&model, blocks, head[0]);
    const uint32_t scratch_size = (uint32_t)embbert_scratch_size(&model, head[1]);
    write_all(&scratch_size, sizeof(scratch_size));
    const int keep = buffer_count;
    for (size_t number = 0;; number++) {
      buffer_t ids;
      buffer_t segments;
      if (!read_chunk(2, &ids)) fail("the file ends within a run");
      if (ids.size == 0) break;
      if (!read_chunk(1, &segments)) fail("the file ends within a run");
      run(&model, (const uint16_t*)(const void*)ids.data, segments.size == 0 ? NULL : segments.data,
          (int32_t)(ids.size / 2), number);
      release(keep);
    }
    release(0);
  }
  if (platform_close(output) < 0) fail("cannot close the output");
  platform_exit(0);
}

#ifdef __arm__
int main(void) { return app_main(); }
#endif

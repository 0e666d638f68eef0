// Armv7E-M DSP implementation (Cortex-M4, Cortex-M7; Cortex-M33 and M55 have the instructions too).
//
// Everything is one product: SMLAD multiplies two pairs of int16 and adds both products to an
// accumulator. Operands are expanded to int16 pairs once and used many times:
//   a "block" is four rows, pair by pair: words [a0 a1 a2 a3] [a0 a1 a2 a3] ...
//   a "panel" is two columns of the result, pair by pair: words [b0 b1] [b0 b1] ...
// `multiply` then gives 4 x 2 results with 3 double loads for every 8 SMLAD. Query rows go through
// the layer in groups of several blocks, as many as the memory at hand holds, and each panel serves
// all of them.
//
// The order of elements within a product does not matter, as long as it is the same on both sides:
// SXTB16 takes bytes 0 and 2 of a word, then 1 and 3, so rows are in that order ("zipped"):
// element i is half (i >> 1) & 1 of pair 2 * (i / 4) + (i & 1).

#include "embbert_internal.h"

#ifdef EMBBERT_USE_DSP

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
// Scheduling before register allocation runs out of registers in inner loops, which then spill.
#pragma GCC optimize("no-schedule-insns")
// GCC must not conclude from a body in assembly which registers its callers may keep.
#define EMBBERT_NAKED static __attribute__((naked, noipa))
#else
#define EMBBERT_NAKED static __attribute__((naked, noinline))
#endif

const char embbert_implementation[] = "dsp";

enum {
  kRows = 4,         // rows of a block
  kColumns = 2,      // columns of a panel
  kMostBlocks = 12,  // blocks of a group
  kMostRows = kMostBlocks * kRows,
  kLongChunk = 128,  // elements of a panel, where memory allows;
  kShortChunk = 64,  //   else
  kUnrolled = 16,    // pairs of one turn of `multiply`
  kConvRound = 8,    // the convolution's taps are padded to a multiple of this
  kMaxInputs = 2 * EMBBERT_MAX_REDUCED,
};

typedef int32_t results_t[kRows][kColumns];

// The steps of a layer: each by itself has the registers that it needs, all in one would not.
#define EMBBERT_STEP_OF_LAYER static __attribute__((noinline))
// Compiled once for each storage, which is a constant argument.
#define EMBBERT_FOR_A_STORAGE static inline __attribute__((always_inline))

// Words of int8 matrices, which are 4-byte aligned.
typedef uint32_t __attribute__((may_alias)) word_t;

// One instruction each; arm_acle.h lacks the rotation of SXTB16 and some compilers the rest.
static inline int32_t smlad(uint32_t a, uint32_t b, int32_t acc) {
  __asm__("smlad %0, %1, %2, %0" : "+r"(acc) : "r"(a), "r"(b) : "cc");
  return acc;
}

static inline uint32_t bytes_0_2(uint32_t word) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
  return pair;
}

static inline uint32_t bytes_1_3(uint32_t word) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
}

static inline uint32_t low_halves(uint32_t low, uint32_t high) {
  uint32_t pair;
  __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(low), "r"(high));
  return pair;
}

static inline uint32_t high_halves(uint32_t low, uint32_t high) {
  uint32_t pair;
  __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(pair) : "r"(high), "r"(low));
  return pair;
}

static inline int32_t saturate16(int32_t value) {
  int32_t low;
  __asm__("ssat %0, #16, %1" : "=r"(low) : "r"(value) : "cc");
  return low;
}

static inline uint32_t maximum_halves(uint32_t a, uint32_t b) {
  uint32_t difference;
  __asm__("ssub16 %1, %0, %2\n\tsel %0, %0, %2" : "+r"(a), "=&r"(difference) : "r"(b) : "cc");
  return a;
}

static inline uint32_t load_word(const void* bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

typedef struct __attribute__((may_alias)) {
  uint32_t low, high;
} pair_t;

// Two words at once, 4-byte aligned: the compiler does not find LDRD and STRD by itself.
static inline void store_pair(uint32_t* to, uint32_t word0, uint32_t word1) {
  __asm__("strd %1, %2, %0" : "=m"(*(pair_t*)(void*)to) : "r"(word0), "r"(word1));
}

static inline pair_t load_pair(const void* from) {
  pair_t pair;
  __asm__("ldrd %0, %1, %2" : "=r"(pair.low), "=r"(pair.high) : "m"(*(const pair_t*)from));
  return pair;
}

static inline uint32_t load_half(const void* bytes) {
  uint16_t half;
  memcpy(&half, bytes, sizeof(half));
  return half;
}

// Where element i of a row lies in a block of int16, for row 0; row r is 2 * r further.
static inline int32_t zipped(int32_t i) {
  return (i >> 2) * (4 * kRows) + (i & 1) * (2 * kRows) + ((i >> 1) & 1);
}

// Words of a block of `elements` (even) elements a row.
static inline int32_t block_words(int32_t elements) { return elements / 2 * kRows; }

// results[i] += blocks[i] . panel over `pairs` (1 or more) pairs, for blocks up to `end`. A block's
// pairs begin `offset` bytes behind its pointer.
//
// In assembly: 8 accumulators, 4 operands and 2 pointers are all the registers there are, so all
// else lives on the stack. A jump into the unrolled loop does the pairs first that are no multiple
// of its length. 11 instructions a pair, 3 every 16 pairs, 18 a block.
#define EMBBERT_STEP         \
  "ldrd r2, r3, [r1], #8\n"  \
  "ldrd r12, lr, [r0], #8\n" \
  "smlad r4, r12, r2, r4\n"  \
  "smlad r5, r12, r3, r5\n"  \
  "smlad r6, lr, r2, r6\n"   \
  "smlad r7, lr, r3, r7\n"   \
  "ldrd r12, lr, [r0], #8\n" \
  "smlad r8, r12, r2, r8\n"  \
  "smlad r9, r12, r3, r9\n"  \
  "smlad r10, lr, r2, r10\n" \
  "smlad r11, lr, r3, r11\n"
#define EMBBERT_4_STEPS EMBBERT_STEP EMBBERT_STEP EMBBERT_STEP EMBBERT_STEP
EMBBERT_NAKED void multiply(uint32_t* const* blocks __attribute__((unused)),
                            const uint32_t* panel __attribute__((unused)),
                            int32_t pairs __attribute__((unused)),
                            results_t* results __attribute__((unused)),
                            uint32_t* const* end __attribute__((unused)),
                            int32_t offset __attribute__((unused))) {
  __asm__ volatile(
      "push {r4-r11, lr}\n"
      "lsl r12, r2, #4\n"  // a block's bytes
      "rsb r2, r2, #0\n"
      "and r2, r2, #15\n"  // steps to skip, of 11 instructions of 4 bytes
      "mov r4, #44\n"
      "mul r2, r2, r4\n"
      "push {r0-r3, r12, lr}\n"
      // sp: 0 blocks, 4 panel, 8 bytes to skip, 12 results, 16 a block's bytes, 20 the block's end;
      // 60 end, 64 offset
      "1:\n"
      "ldrd r12, r1, [sp]\n"
      "ldr r0, [r12], #4\n"
      "str r12, [sp]\n"
      "ldr r3, [sp, #64]\n"
      "add r0, r0, r3\n"
      "ldr r3, [sp, #16]\n"
      "add r3, r0, r3\n"
      "str r3, [sp, #20]\n"
      "ldrd r2, r3, [sp, #8]\n"
      "ldm r3, {r4-r11}\n"
      "add pc, r2\n"  // pc is two halfwords on
      "nop\n"
      "2:\n"  //
      EMBBERT_4_STEPS EMBBERT_4_STEPS EMBBERT_4_STEPS EMBBERT_4_STEPS
      "ldr r12, [sp, #20]\n"
      "cmp r0, r12\n"
      "bne 2b\n"
      "ldr r3, [sp, #12]\n"
      "stm r3!, {r4-r11}\n"
      "str r3, [sp, #12]\n"
      "ldr r12, [sp]\n"
      "ldr r0, [sp, #60]\n"
      "cmp r12, r0\n"
      "bne 1b\n"
      "add sp, #24\n"
      "pop {r4-r11, pc}\n");
}
#undef EMBBERT_4_STEPS
#undef EMBBERT_STEP

// The same for the first two rows of one block: 6 instructions a pair, 2 every 16 pairs, 13 a call.
#define EMBBERT_STEP          \
  "ldrd r2, r3, [r1], #8\n"   \
  "ldrd r12, lr, [r0], #16\n" \
  "smlad r4, r12, r2, r4\n"   \
  "smlad r5, r12, r3, r5\n"   \
  "smlad r6, lr, r2, r6\n"    \
  "smlad r7, lr, r3, r7\n"
#define EMBBERT_4_STEPS EMBBERT_STEP EMBBERT_STEP EMBBERT_STEP EMBBERT_STEP
EMBBERT_NAKED void multiply_two(const uint32_t* block __attribute__((unused)),
                                const uint32_t* panel __attribute__((unused)),
                                int32_t pairs __attribute__((unused)),
                                results_t results __attribute__((unused))) {
  __asm__ volatile(
      "push {r3-r8, lr}\n"
      "add r8, r0, r2, lsl #4\n"  // the block's end
      "ldm r3, {r4-r7}\n"
      "rsb r2, r2, #0\n"
      "and r2, r2, #15\n"  // steps to skip, of 6 instructions of 4 bytes
      "mov r3, #24\n"
      "mul r2, r2, r3\n"
      "add pc, r2\n"  // pc is two halfwords on
      "nop\n"
      "1:\n"  //
      EMBBERT_4_STEPS EMBBERT_4_STEPS EMBBERT_4_STEPS EMBBERT_4_STEPS
      "cmp r0, r8\n"
      "bne 1b\n"
      "pop {r3}\n"
      "stm r3, {r4-r7}\n"
      "pop {r4-r8, pc}\n");
}
#undef EMBBERT_4_STEPS
#undef EMBBERT_STEP

// The first row alone: row[i] += first row of block . two int8 rows of `count` (a multiple of 8)
// elements, which are expanded on the way.
static void multiply_first(const uint32_t* block, const int8_t* row0, const int8_t* row1,
                           int32_t count, int32_t row[kColumns]) {
  int32_t s0 = row[0], s1 = row[1];
  uint32_t a0, a1, b0, b1, pair, pairs;
#define EMBBERT_STEP(word0, word1)          \
  "sxtb16 %[pair], " word0                  \
  "\n"                                      \
  "ldr %[pairs], [%[block]], #16\n"         \
  "smlad %[s0], %[pairs], %[pair], %[s0]\n" \
  "sxtb16 %[pair], " word1                  \
  "\n"                                      \
  "smlad %[s1], %[pairs], %[pair], %[s1]\n"
  __asm__ volatile(
      "1:\n"
      "ldrd %[a0], %[b0], [%[row0]], #8\n"
      "ldrd %[a1], %[b1], [%[row1]], #8\n"  //
      EMBBERT_STEP("%[a0]", "%[a1]") EMBBERT_STEP("%[a0], ror #8", "%[a1], ror #8")
          EMBBERT_STEP("%[b0]", "%[b1]") EMBBERT_STEP("%[b0], ror #8", "%[b1], ror #8")
      "cmp %[row0], %[end]\n"
      "bne 1b"
      : [s0] "+&r"(s0), [s1] "+&r"(s1), [row0] "+&r"(row0), [row1] "+&r"(row1),
        [block] "+&r"(block), [a0] "=&r"(a0), [a1] "=&r"(a1), [b0] "=&r"(b0), [b1] "=&r"(b1),
        [pair] "=&r"(pair), [pairs] "=&r"(pairs)
      : [end] "r"(row0 + count)
      : "cc", "memory");
#undef EMBBERT_STEP
  row[0] = s0, row[1] = s1;
}

// Four int8 rows of `count` (a multiple of 4) elements to a block, zipped.
static void expand_block(const int8_t* const rows[kRows], int32_t count, uint32_t* block) {
  for (int32_t r = 0; r < kRows; r++) {
    const int8_t* row = rows[r];
    uint32_t* to = block + r;
    for (int32_t i = 0; i < count; i += 4) {
      const uint32_t word = load_word(row + i);
      to[0] = bytes_0_2(word);
      to[kRows] = bytes_1_3(word);
      to += 2 * kRows;
    }
  }
}

// a0, b0 of one row and a1, b1 of another, four int8 each, to the panel as pairs of int16, zipped.
#define ZIP_TWO_WORDS                   \
  "sxtb16 %[c0], %[a0]\n"               \
  "sxtb16 %[c1], %[a1]\n"               \
  "strd %[c0], %[c1], [%[panel]], #8\n" \
  "sxtb16 %[a0], %[a0], ror #8\n"       \
  "sxtb16 %[a1], %[a1], ror #8\n"       \
  "strd %[a0], %[a1], [%[panel]], #8\n" \
  "sxtb16 %[c0], %[b0]\n"               \
  "sxtb16 %[c1], %[b1]\n"               \
  "strd %[c0], %[c1], [%[panel]], #8\n" \
  "sxtb16 %[b0], %[b0], ror #8\n"       \
  "sxtb16 %[b1], %[b1], ror #8\n"       \
  "strd %[b0], %[b1], [%[panel]], #8\n"

// Two int8 rows of `count` (a multiple of 8) elements to a panel, zipped.
static inline void expand_rows(const int8_t* row0, const int8_t* row1, int32_t count,
                               uint32_t* panel) {
  uint32_t a0, a1, b0, b1, c0, c1;
  __asm__ volatile(
      "1:\n"
      "ldrd %[a0], %[b0], [%[row0]], #8\n"
      "ldrd %[a1], %[b1], [%[row1]], #8\n" ZIP_TWO_WORDS
      "cmp %[row0], %[end]\n"
      "bne 1b"
      : [row0] "+&r"(row0), [row1] "+&r"(row1), [panel] "+&r"(panel), [a0] "=&r"(a0),
        [a1] "=&r"(a1), [b0] "=&r"(b0), [b1] "=&r"(b1), [c0] "=&r"(c0), [c1] "=&r"(c1)
      : [end] "r"(row0 + count)
      : "cc", "memory");
}

// Of 4 bytes of codes, 16 * second + first, 16 times the first ones.
static inline uint32_t first_codes(uint32_t word) { return word << 4 & 0xF0F0F0F0u; }

// Two rows of `count` (a multiple of 8) codes, a byte for both, to a panel, zipped: 16 times the
// first row, and the bytes as they are.
static inline void expand_codes(const int8_t* codes, int32_t count, uint32_t* panel) {
  uint32_t a0, a1, b0, b1, c0, c1;
  __asm__ volatile(
      "1:\n"
      "ldrd %[a1], %[b1], [%[codes]], #8\n"
      "and %[a0], %[mask], %[a1], lsl #4\n"
      "and %[b0], %[mask], %[b1], lsl #4\n" ZIP_TWO_WORDS
      "cmp %[codes], %[end]\n"
      "bne 1b"
      : [codes] "+&r"(codes), [panel] "+&r"(panel), [a0] "=&r"(a0), [a1] "=&r"(a1), [b0] "=&r"(b0),
        [b1] "=&r"(b1), [c0] "=&r"(c0), [c1] "=&r"(c1)
      : [end] "r"(codes + count), [mask] "r"(0xF0F0F0F0u)
      : "cc", "memory");
}

// Columns 0 and 1 of x (count, stride) to a panel of pairs of rows; an odd last row is paired with
// itself.
EMBBERT_STEP_OF_LAYER void expand_columns(const int8_t* x, int32_t stride, int32_t count,
                                          uint32_t* panel) {
  for (; count >= 4; count -= 4) {
    uint32_t bytes = low_halves(load_half(x), load_half(x + stride));
    store_pair(panel, bytes_0_2(bytes), bytes_1_3(bytes));
    bytes = low_halves(load_half(x + 2 * stride), load_half(x + 3 * stride));
    store_pair(panel + 2, bytes_0_2(bytes), bytes_1_3(bytes));
    panel += 4;
    x += 4 * stride;
  }
  for (; count > 0; count -= 2) {
    const uint32_t bytes = low_halves(load_half(x), load_half(count == 1 ? x : x + stride));
    store_pair(panel, bytes_0_2(bytes), bytes_1_3(bytes));
    panel += kColumns;
    x += 2 * stride;
  }
}

// A group of query rows on its way through a layer, with its memory.
typedef struct {
  int32_t rows;      // 1..kMostRows
  int32_t blocks;    // of kRows of them
  int32_t whole;     // blocks of which more than two rows count
  int32_t qc_words;  // of one block's q; behind them begins its `work`
  uint32_t* panel;   // `chunk` elements of kColumns columns; also the convolution's columns
  int32_t chunk;     //
  uint32_t panel_bytes;
  // Each block's q (D), zero point taken off, later c (D); then `work`: xhat (D), then scores and
  // weights (n), then s (E*D).
  uint32_t* qc[kMostBlocks];
} group_t;

static inline uint32_t* work_of(const group_t* group, int32_t block) {
  return group->qc[block] + group->qc_words;
}

// Where a group may be put: the caller's scratch, and the rows of `out` behind the group's, which
// hold nothing yet.
typedef struct {
  uint8_t* at;
  size_t size;
} area_t;

static uint32_t* take(area_t* area, size_t size) {
  if (area->size < size) return NULL;
  uint32_t* const taken = (uint32_t*)(void*)area->at;
  area->at += size;
  area->size -= size;
  return taken;
}

// Puts `blocks` blocks of block_bytes each and a panel of panel_bytes into two areas: the panel
// into the second if it can. Returns whether there is room.
static int place(group_t* group, int32_t blocks, size_t block_bytes, size_t panel_bytes,
                 area_t first, area_t second) {
  group->panel = take(&second, panel_bytes);
  if (group->panel == NULL) group->panel = take(&first, panel_bytes);
  if (group->panel == NULL) return 0;
  group->panel_bytes = (uint32_t)panel_bytes;
  for (int32_t b = 0; b < blocks; b++) {
    group->qc[b] = take(&first, block_bytes);
    if (group->qc[b] == NULL) group->qc[b] = take(&second, block_bytes);
    if (group->qc[b] == NULL) return 0;
  }
  group->blocks = blocks;
  return 1;
}

// The largest group of the `left` rows of `out` that there is memory for:
// embbert_block_scratch_size of it is enough for kRows or for 2 * kRows rows.
EMBBERT_STEP_OF_LAYER void plan(group_t* group, const embbert_block_t* block, int32_t n,
                                int32_t left, int8_t* out, const area_t* scratch) {
  const size_t d = (size_t)block->hidden;
  const size_t block_bytes = 8 * d + EMBBERT_SCRATCH_WORK(d, (size_t)block->expansion, (size_t)n);
  const size_t short_panel = EMBBERT_SCRATCH_PANEL((size_t)block->taps);
  group->qc_words = block_words(block->hidden);
  int32_t blocks = (left + kRows - 1) / kRows;
  if (blocks > kMostBlocks) blocks = kMostBlocks;
  for (;; blocks--) {
    group->rows = left < blocks * kRows ? left : blocks * kRows;
    group->whole = (group->rows + 1) / kRows;
    const size_t used = (size_t)group->rows * d;
    const area_t behind = {(uint8_t*)out + used, (size_t)left * d - used};
    group->chunk = kLongChunk;
    if (place(group, blocks, block_bytes, 4 * kLongChunk, *scratch, behind)) return;
    group->chunk = kShortChunk;
    if (place(group, blocks, block_bytes, short_panel, *scratch, behind)) return;
  }
}

// results[block] += its rows . panel over `pairs` pairs; the rows lie `at` words into the block's
// memory.
static inline void multiply_panel(const group_t* group, int32_t at, int32_t pairs,
                                  results_t* results) {
  if (group->whole > 0) {
    multiply(group->qc, group->panel, pairs, results, group->qc + group->whole, 4 * at);
  }
  if (group->whole < group->blocks) {
    multiply_two(group->qc[group->whole] + at, group->panel, pairs, results[group->whole]);
  }
}

// The first row alone, of two rows of `count` (a multiple of 8) codes: what expand_codes and
// multiply give.
static void multiply_first_codes(const uint32_t* block, const int8_t* codes, int32_t count,
                                 int32_t row[kColumns]) {
  int32_t s0 = row[0], s1 = row[1];
  for (const int8_t* const end = codes + count; codes != end; codes += 4) {
    const uint32_t word = load_word(codes);
    const uint32_t first = first_codes(word);
    s0 = smlad(block[0], bytes_0_2(first), s0);
    s1 = smlad(block[0], bytes_0_2(word), s1);
    s0 = smlad(block[kRows], bytes_1_3(first), s0);
    s1 = smlad(block[kRows], bytes_1_3(word), s1);
    block += 2 * kRows;
  }
  row[0] = s0, row[1] = s1;
}

// How rows of a matrix are stored: int8, or codes of 4 bits, a byte for two rows.
typedef enum { kBytes, kCodes } storage_t;

// results[block] += its rows . two rows of `count` elements; of codes see take_apart, and row1 is
// not used. The block's rows lie `at` words into its memory: 0 or qc_words.
static void multiply_rows(const group_t* group, int32_t at, storage_t storage, const int8_t* row0,
                          const int8_t* row1, int32_t count, results_t* results) {
  if (group->rows == 1) {  // not worth a panel
    const uint32_t* const block = group->qc[0] + at;
    if (storage == kBytes) {
      multiply_first(block, row0, row1, count, results[0][0]);
    } else {
      multiply_first_codes(block, row0, count, results[0][0]);
    }
    return;
  }
  for (int32_t i = 0; i < count; i += group->chunk) {
    const int32_t part = count - i < group->chunk ? count - i : group->chunk;
    if (storage == kBytes) {
      expand_rows(row0 + i, row1 + i, part, group->panel);
    } else {
      expand_codes(row0 + i, part, group->panel);
    }
    multiply_panel(group, at, part / 2, results);
    at += block_words(group->chunk);
  }
}

static void set_results(const group_t* group, int32_t column0, int32_t column1,
                        results_t* results) {
  uint32_t* const words = (uint32_t*)(void*)results;
  for (int32_t i = 0; i < group->blocks * kRows * kColumns; i += kRows * kColumns) {
#pragma GCC unroll 4
    for (int32_t r = 0; r < kRows; r++) {
      store_pair(words + i + kColumns * r, (uint32_t)column0, (uint32_t)column1);
    }
  }
}

// Two columns' part in the sums of a product with weights: sum = bias + factor * result for codes.
// For bytes, results begin with the bias and are the sums.
typedef struct {
  int32_t bias[kColumns];
  int32_t factor[kColumns];
} scale_t;

// The products by two rows of codes from those of expand_codes: 16 * first, 16 * second + first.
static inline void take_apart(const int32_t result[kColumns], int32_t sums[kColumns]) {
  sums[0] = result[0] >> 4;
  sums[1] = (result[1] - sums[0]) >> 4;
}

// Two columns' sums.
static inline void sums_of(storage_t storage, const scale_t* scale, const int32_t result[kColumns],
                           int32_t sums[kColumns]) {
  if (storage == kBytes) {
    sums[0] = result[0];
    sums[1] = result[1];
    return;
  }
  take_apart(result, sums);
  for (int i = 0; i < kColumns; i++) sums[i] = scale->bias[i] + scale->factor[i] * sums[i];
}

// results[block] = its rows . columns c and c + 1 of a matrix stored by output, (D, count), whose
// bias (D), or NULL for none, and factors (D), with codes, are in the scale that it returns.
static inline scale_t multiply_weights(const group_t* group, int32_t at, storage_t storage,
                                       const int8_t* weights, const int8_t* factors,
                                       const int32_t* bias, int32_t c, int32_t count,
                                       results_t* results) {
  scale_t scale = {{0}, {0}};
  if (bias != NULL) scale.bias[0] = bias[c], scale.bias[1] = bias[c + 1];
  const int8_t* row = weights + c * count;
  if (storage == kBytes) {
    set_results(group, scale.bias[0], scale.bias[1], results);
  } else {
    set_results(group, 0, 0, results);
    scale.factor[0] = factors[c], scale.factor[1] = factors[c + 1];
    row = weights + c / 2 * count;
  }
  multiply_rows(group, at, storage, row, row + count, count, results);
  return scale;
}

void embbert_embed_rows(const embbert_embed_t* embed, const uint16_t* ids, const uint8_t* segments,
                        int32_t n, int8_t* out) {
  const int32_t r = embed->reduced;
  const int32_t d = embed->hidden;
  uint32_t block[kMaxInputs / 2 * kRows];
  uint32_t* const blocks[1] = {block};
  const int32_t shift = embed->shift, zero = embed->zero;
  const int coded = embed->weight_bits == 4;
  uint32_t panel[kMaxInputs / 2 * kColumns];
  for (int32_t t = 0; t < n; t += kRows) {
    const int32_t rows = n - t < kRows ? n - t : kRows;
    _Alignas(4) int8_t unpacked[kRows][EMBBERT_MAX_REDUCED];
    const int8_t* tokens[kRows];
    const int8_t* positions[kRows];
    const int32_t* biases[kRows];
    for (int32_t i = 0; i < kRows; i++) {
      const int32_t row = t + (i < rows ? i : rows - 1);  // rows beyond the last repeat it
      tokens[i] = embbert_token_row(embed, ids[row], unpacked[i]);
      positions[i] = embed->position + row * r;
      biases[i] = embed->bias + (segments != NULL && segments[row] == 2 ? d : 0);
    }
    expand_block(tokens, r, block);
    expand_block(positions, r, block + block_words(r));
    const int8_t* weight = embed->weight;  // (D, 2R)
    for (int32_t c = 0; c < d; c += kColumns) {
      results_t results = {{0}};
      if (coded) {
        expand_codes(weight, 2 * r, panel);
      } else {
        expand_rows(weight, weight + 2 * r, 2 * r, panel);
      }
      weight += EMBBERT_WEIGHT_BYTES(kColumns, 2 * r, embed->weight_bits);
      multiply(blocks, panel, r, &results, blocks + 1, 0);
      for (int32_t i = 0; i < rows; i++) {
        int8_t* const to = out + (t + i) * d + c;
        if (coded) take_apart(results[i], results[i]);
        const int32_t acc0 = biases[i][c] + results[i][0];
        const int32_t acc1 = biases[i][c + 1] + results[i][1];
        to[0] = (int8_t)embbert_requantize(acc0, shift, embed->multipliers[c], zero);
        to[1] = (int8_t)embbert_requantize(acc1, shift, embed->multipliers[c + 1], zero);
      }
    }
  }
}

// x (n, D) in place.
EMBBERT_STEP_OF_LAYER void normalize(const embbert_block_t* block, int8_t* x, int32_t n) {
  const int32_t hidden = block->hidden;
  const int32_t zero = block->x_zero;
  const uint32_t zeros = low_halves((uint32_t)zero, (uint32_t)zero);
  for (int32_t t = 0; t < n; t++) {
    int32_t squares = 0;
    for (int32_t d = 0; d < hidden; d += 4) {
      const uint32_t word = load_word(x + d);
      uint32_t even;
      uint32_t odd;
      __asm__("ssub16 %0, %1, %2" : "=r"(even) : "r"(bytes_0_2(word)), "r"(zeros) : "cc");
      __asm__("ssub16 %0, %1, %2" : "=r"(odd) : "r"(bytes_1_3(word)), "r"(zeros) : "cc");
      squares = smlad(even, even, squares);
      squares = smlad(odd, odd, squares);
    }
    const embbert_factor_t factor = embbert_norm_factor(block, (uint32_t)squares);
    for (const int8_t* const end = x + hidden; x != end; x += 4) {
#pragma GCC unroll 4
      for (int32_t i = 0; i < 4; i++) {
        x[i] = (int8_t)embbert_requantize(x[i] - zero, factor.shift, factor.multiplier, 0);
      }
    }
  }
}

// Rows of xhat from `xhat` on to q, zero point taken off.
EMBBERT_FOR_A_STORAGE void query_with(storage_t storage, const embbert_block_t* block,
                                      const group_t* group, const int8_t* xhat) {
  const int32_t d = block->hidden;
  const int32_t shift = block->q_shift, multiplier = block->q_multiplier, zero = block->q_zero;
  for (int32_t b = 0; b < group->blocks; b++) {
    const int8_t* rows[kRows];
    for (int32_t r = 0; r < kRows; r++) {  // rows beyond the last repeat it
      const int32_t row = b * kRows + r;
      rows[r] = xhat + (row < group->rows ? row : group->rows - 1) * d;
    }
    expand_block(rows, d, work_of(group, b));
  }
  for (int32_t c = 0; c < d; c += kColumns) {
    results_t results[kMostBlocks];
    const scale_t scale = multiply_weights(group, group->qc_words, storage, block->wq,
                                           block->wq_factors, block->bq, c, d, results);
    for (int32_t b = 0; b < group->blocks; b++) {
      int16_t* const to = (int16_t*)(void*)group->qc[b] + zipped(c);
#pragma GCC unroll 4
      for (int32_t r = 0; r < kRows; r++) {
        int32_t acc[kColumns];
        sums_of(storage, &scale, results[b][r], acc);
        to[2 * r] = (int16_t)(embbert_requantize(acc[0], shift, multiplier, zero) - zero);
        to[2 * r + 2 * kRows] =
            (int16_t)(embbert_requantize(acc[1], shift, multiplier, zero) - zero);
      }
    }
  }
}

EMBBERT_STEP_OF_LAYER void query(const embbert_block_t* block, const group_t* group,
                                 const int8_t* xhat) {
  if (block->weight_bits == 4) {
    query_with(kCodes, block, group, xhat);
  } else {
    query_with(kBytes, block, group, xhat);
  }
}

// q against xhat (n, D): scores in 1/256 octaves, pairs of neighbouring keys. An odd last key is
// paired with itself.
EMBBERT_STEP_OF_LAYER void score(const embbert_block_t* block, const group_t* group,
                                 const int8_t* xhat, int32_t n) {
  const int32_t d = block->hidden;
  const int32_t shift = block->score_shift, multiplier = block->score_multiplier;
  int32_t to = 0;
  for (int32_t j = 0; j < n; j += 2) {
    results_t results[kMostBlocks];
    set_results(group, 0, 0, results);
    multiply_rows(group, 0, kBytes, xhat, j + 1 < n ? xhat + d : xhat, d, results);
    xhat += 2 * d;
    for (int32_t b = 0; b < group->blocks; b++) {
      uint32_t* const words = work_of(group, b) + to;
#pragma GCC unroll 4
      for (int32_t r = 0; r < kRows; r++) {
        const int32_t score0 = saturate16(
            embbert_multiply_high(embbert_shift_left(results[b][r][0], shift), multiplier));
        const int32_t score1 = saturate16(
            embbert_multiply_high(embbert_shift_left(results[b][r][1], shift), multiplier));
        words[r] = low_halves((uint32_t)score0, (uint32_t)score1);
      }
    }
    to += kRows;
  }
}

// Two scores as distances below the highest, unsigned halves, to their weights. T >> octaves leaves
// the last bit that it shifts out in the carry, and adding the carry rounds half up: the formula's
// (2 * T >> octaves) + 1 >> 1, for which the carry must be clear before a shift by 0. More octaves
// than 31 give 0 as they stand, without a clamp.
static inline uint32_t weights_of(uint32_t below) {
  uint32_t weights, weight, field;
  __asm__(
      "cmn %[below], #0\n"  // clears the carry, as ADCS of small numbers does
      "uxtb %[field], %[below]\n"
      "ldrh %[weights], [%[table], %[field], lsl #1]\n"
      "ubfx %[field], %[below], #8, #8\n"
      "lsrs %[weights], %[weights], %[field]\n"
      "adcs %[weights], %[weights], #0\n"
      "uxtb %[field], %[below], ror #16\n"
      "ldrh %[weight], [%[table], %[field], lsl #1]\n"
      "lsr %[field], %[below], #24\n"
      "lsrs %[weight], %[weight], %[field]\n"
      "adcs %[weight], %[weight], #0\n"
      "pkhbt %[weights], %[weights], %[weight], lsl #16"
      : [weights] "=&r"(weights), [weight] "=&r"(weight), [field] "=&r"(field)
      : [below] "r"(below), [table] "r"(embbert_exp2_table), "m"(embbert_exp2_table)
      : "cc");
  return weights;
}

static inline uint32_t subtract_halves(uint32_t a, uint32_t b) {
  uint32_t difference;
  __asm__("ssub16 %0, %1, %2" : "=r"(difference) : "r"(a), "r"(b) : "cc");
  return difference;
}

// Two rows of scores (n), side by side in words kRows apart, to weights in place; their sums.
EMBBERT_STEP_OF_LAYER void exponentials(uint32_t* rows, int32_t n, uint32_t sums[2]) {
  uint32_t* const end = rows + (n + 1) / 2 * kRows;
  uint32_t most0 = rows[0], most1 = rows[1];
  for (uint32_t* word = rows; word != end; word += kRows) {
    const pair_t words = load_pair(word);
    most0 = maximum_halves(most0, words.low);
    most1 = maximum_halves(most1, words.high);
  }
  most0 = maximum_halves(most0, most0 << 16 | most0 >> 16);  // in both halves
  most1 = maximum_halves(most1, most1 << 16 | most1 >> 16);
  int32_t sum0 = 0, sum1 = 0;
  for (uint32_t* word = rows; word != end; word += kRows) {
    const pair_t words = load_pair(word);
    const uint32_t weights0 = weights_of(subtract_halves(most0, words.low));
    const uint32_t weights1 = weights_of(subtract_halves(most1, words.high));
    store_pair(word, weights0, weights1);
    sum0 = smlad(weights0, 0x10001, sum0);
    sum1 = smlad(weights1, 0x10001, sum1);
  }
  if ((n & 1) != 0) {  // the last key was counted twice
    uint32_t* const last = end - kRows;
    sum0 -= (int32_t)(last[0] >> 16);
    sum1 -= (int32_t)(last[1] >> 16);
    last[0] &= 0xFFFF;
    last[1] &= 0xFFFF;
  }
  sums[0] = (uint32_t)sum0;
  sums[1] = (uint32_t)sum1;
  if (n > EMBBERT_MOST_WHOLE_WEIGHTS) {
    for (int r = 0; r < 2; r++) {
      sums[r] = embbert_halve_weights((int16_t*)(rows + r), (n + 1) / 2, 2, 2 * kRows);
    }
  }
}

// c = 256 * weights . xhat / sums, for xhat (n, D).
EMBBERT_STEP_OF_LAYER void context(const group_t* group, const embbert_factor_t* factors,
                                   const int8_t* xhat, int32_t n, int32_t d) {
  for (int32_t c = 0; c < d; c += kColumns) {
    results_t results[kMostBlocks];
    set_results(group, 0, 0, results);
    for (int32_t j = 0; j < n; j += group->chunk) {
      const int32_t part = n - j < group->chunk ? n - j : group->chunk;
      expand_columns(xhat + j * d + c, d, part, group->panel);
      multiply_panel(group, group->qc_words + block_words(j), (part + 1) / 2, results);
    }
    const embbert_factor_t* factor = factors;
    for (int32_t b = 0; b < group->blocks; b++) {
      int16_t* const to = (int16_t*)(void*)group->qc[b] + zipped(c);
#pragma GCC unroll 4
      for (int32_t r = 0; r < kRows; r++) {
        const int32_t shift = factor[r].shift, multiplier = factor[r].multiplier;
        to[2 * r] =
            (int16_t)embbert_multiply_high(embbert_shift_left(results[b][r][0], shift), multiplier);
        to[2 * r + 2 * kRows] =
            (int16_t)embbert_multiply_high(embbert_shift_left(results[b][r][1], shift), multiplier);
      }
      factor += kRows;
    }
  }
}

// Taps that the convolution of rows up to `last` computes with, padded.
static int32_t padded_taps(const embbert_block_t* block, int32_t last) {
  const int32_t taps = block->taps < last + 1 ? block->taps : last + 1;
  return (taps + kConvRound - 1) / kConvRound * kConvRound;
}

// `count` rows of two neighbouring columns, as int16.
static void copy_columns(const int8_t* columns, int32_t stride, int32_t count, int16_t* column0,
                         int16_t* column1) {
  for (; count >= 2; count -= 2) {
    const uint32_t bytes = low_halves(load_half(columns), load_half(columns + stride));
    const uint32_t pair0 = bytes_0_2(bytes);
    const uint32_t pair1 = bytes_1_3(bytes);
    memcpy(column0, &pair0, sizeof(pair0));
    memcpy(column1, &pair1, sizeof(pair1));
    column0 += 2;
    column1 += 2;
    columns += 2 * stride;
  }
  if (count == 1) {
    *column0 = columns[0];
    *column1 = columns[1];
  }
}

// sums[i] = bias + sum_k x[i + k] * w[k], for `words` (a multiple of 4) pairs of taps. Sums of odd
// i take words of x at odd halves, which need no alignment.
static inline void slide(const int16_t* x, const uint32_t* w, int32_t words, int32_t bias,
                         int32_t sums[kRows]) {
  int32_t s0 = bias, s1 = bias, s2 = bias, s3 = bias;
  uint32_t x0 = load_word(x), x1 = load_word(x + 1);
  for (const uint32_t* const end = w + words; w != end; w += 4) {
    pair_t weights = load_pair(w);
    uint32_t x2 = load_word(x + 2), x3 = load_word(x + 3);
    s0 = smlad(x0, weights.low, s0);
    s1 = smlad(x1, weights.low, s1);
    s2 = smlad(x2, weights.low, s2);
    s3 = smlad(x3, weights.low, s3);
    x0 = load_word(x + 4), x1 = load_word(x + 5);
    s0 = smlad(x2, weights.high, s0);
    s1 = smlad(x3, weights.high, s1);
    s2 = smlad(x0, weights.high, s2);
    s3 = smlad(x1, weights.high, s3);
    weights = load_pair(w + 2);
    x2 = load_word(x + 6), x3 = load_word(x + 7);
    s0 = smlad(x0, weights.low, s0);
    s1 = smlad(x1, weights.low, s1);
    s2 = smlad(x2, weights.low, s2);
    s3 = smlad(x3, weights.low, s3);
    x0 = load_word(x + 8), x1 = load_word(x + 9);
    s0 = smlad(x2, weights.high, s0);
    s1 = smlad(x3, weights.high, s1);
    s2 = smlad(x0, weights.high, s2);
    s3 = smlad(x1, weights.high, s3);
    x += 8;
  }
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

// The last `taps` (a multiple of 4) of `count` taps to pairs of int16, as many zeros before them as
// there are too few.
static void expand_taps(const int8_t* w, int32_t count, int32_t taps, uint32_t* pairs) {
  int8_t padded[EMBBERT_MAX_TAPS];
  w += count - taps;
  if (count < taps) {
    memset(padded, 0, sizeof(padded));
    memcpy(padded + taps - count, w + taps - count, (size_t)count);
    w = padded;
  }
  for (const int8_t* const end = w + taps; w != end; w += 4) {
    const uint32_t even = bytes_0_2(load_word(w));
    const uint32_t odd = bytes_1_3(load_word(w));
    store_pair(pairs, low_halves(even, odd), high_halves(even, odd));
    pairs += 2;
  }
}

// One channel of s, in `blocks` blocks from `to_block` on: x is the channel's window, w its taps in
// `words` pairs.
EMBBERT_STEP_OF_LAYER void convolve_channel(const embbert_block_t* block, const group_t* group,
                                            int32_t channel, const int16_t* x, const uint32_t* w,
                                            int32_t words, int32_t to_block, int32_t blocks) {
  const int32_t shift = block->conv_shift, zero = block->y_zero;
  const int32_t multiplier = block->conv_multipliers[channel];
  const int32_t bias = block->conv_bias[channel];
  const int32_t at = 2 * group->qc_words + zipped(channel);
  const int8_t* silu = block->silu + 128;
  __asm__("" : "+r"(silu));  // the compiler adds 128 each time else
  for (uint32_t* const* to = group->qc + to_block; blocks > 0; blocks--) {
    int32_t sums[kRows];
    slide(x, w, words, bias, sums);
    x += kRows;
    int16_t* const s = (int16_t*)(void*)*to++ + at;
#pragma GCC unroll 4
    for (int32_t r = 0; r < kRows; r++) {
      s[2 * r] = silu[embbert_requantize(sums[r], shift, multiplier, zero)];
    }
  }
}

// Rows t.. t+count-1 of SiLU(causal depthwise convolution of xhat (n, D)), to the blocks of s (E*D)
// from block `to_block` on.
EMBBERT_STEP_OF_LAYER void convolve_rows(const embbert_block_t* block, const group_t* group,
                                         const int8_t* xhat, int32_t t, int32_t count,
                                         int32_t to_block) {
  const int32_t d = block->hidden;
  const int32_t e = block->expansion;
  const int32_t end = t + count;
  // Padding taps are zero, and they come first; so do the rows before the sentence.
  const int32_t taps = padded_taps(block, end - 1);
  const int32_t first = t - taps + 1;
  const int32_t absent_rows = embbert_larger(-first, 0);
  const int32_t blocks = (count + kRows - 1) / kRows;
  const int32_t window = taps + blocks * kRows + 2;  // the last three are not used
  int16_t* const x = (int16_t*)(void*)group->panel;  // windows of two columns
  uint32_t w[EMBBERT_MAX_TAPS / 2];
  const int8_t* const present = xhat + (first + absent_rows) * d;
  memset(x, 0, 4 * (size_t)window);
  const int8_t* channel_taps = block->conv;
  int32_t channel = 0;
  for (int32_t c = 0; c < d; c += 2) {
    copy_columns(present + c, d, end - first - absent_rows, x + absent_rows,
                 x + window + absent_rows);
    for (int32_t i = 0; i < 2 * e; i++) {
      const int16_t* const column = i < e ? x : x + window;
      expand_taps(channel_taps, block->taps, taps, w);
      channel_taps += block->taps;
      convolve_channel(block, group, channel, column, w, taps / 2, to_block, blocks);
      channel++;
    }
  }
}

// The same for all rows of the group, as many at a time as the columns' windows have room for.
static void convolve(const embbert_block_t* block, const group_t* group, const int8_t* xhat,
                     int32_t t) {
  const int32_t room = (int32_t)(group->panel_bytes / 4) - padded_taps(block, EMBBERT_MAX_LENGTH);
  const int32_t most = (room - 2) / kRows * kRows;
  for (int32_t row = 0; row < group->rows; row += most) {
    const int32_t count = group->rows - row < most ? group->rows - row : most;
    convolve_rows(block, group, xhat, t + row, count, row / kRows);
  }
}

// c.Wv + s.Wz + bz: rows of out.
EMBBERT_FOR_A_STORAGE void project_with(storage_t storage, const embbert_block_t* block,
                                        const group_t* group, int8_t* out) {
  const int32_t d = block->hidden;
  const int32_t a_shift = block->a_shift, a_multiplier = block->a_multiplier;
  const int32_t z_shift = block->z_shift, z_multiplier = block->z_multiplier;
  const int32_t zero = block->out_zero * 256 + 128;
  for (int32_t c = 0; c < d; c += kColumns) {
    results_t a[kMostBlocks];
    results_t z[kMostBlocks];
    const scale_t a_scale =
        multiply_weights(group, 0, storage, block->wv, block->wv_factors, NULL, c, d, a);
    const scale_t z_scale =
        multiply_weights(group, group->qc_words, storage, block->wz, block->wz_factors, block->bz,
                         c, block->expansion * d, z);
    int8_t* to = out + c;
    const int32_t(*a_row)[kColumns] = a[0];
    const int32_t(*z_row)[kColumns] = z[0];
    for (int32_t row = 0; row < group->rows; row++) {
      int32_t a_acc[kColumns], z_acc[kColumns];
      sums_of(storage, &a_scale, *a_row, a_acc);
      sums_of(storage, &z_scale, *z_row, z_acc);
#pragma GCC unroll 2
      for (int32_t i = 0; i < kColumns; i++) {
        int32_t sum =
            embbert_multiply_high_add(embbert_shift_left(a_acc[i], a_shift), a_multiplier, zero);
        sum = embbert_multiply_high_add(embbert_shift_left(z_acc[i], z_shift), z_multiplier, sum);
        to[i] = (int8_t)embbert_saturate8_of_256ths(sum);
      }
      to += d;
      a_row++;
      z_row++;
    }
  }
}

EMBBERT_STEP_OF_LAYER void project(const embbert_block_t* block, const group_t* group,
                                   int8_t* out) {
  if (block->weight_bits == 4) {
    project_with(kCodes, block, group, out);
  } else {
    project_with(kBytes, block, group, out);
  }
}

// EMBBERT_BLOCK_SCRATCH_BYTES of the header knows these.
_Static_assert(kRows == 4 && kShortChunk / 2 * kColumns == 64 && kConvRound == 8, "scratch");
_Static_assert(EMBBERT_MAX_TAPS + 8 <= kLongChunk / 2 * kColumns, "the convolution's windows");

// Softmax of the group's scores, and c. Factors of all rows at once are too much for the frame of
// the caller, which others need as well.
EMBBERT_STEP_OF_LAYER void attend(group_t* group, const int8_t* xhat, int32_t n, int32_t d) {
  embbert_factor_t factors[kMostRows];
  EMBBERT_PROFILE_START(mark);
  for (int32_t row = 0; row < group->blocks * kRows; row += 2) {
    if (row < group->rows) {
      uint32_t sums[2];
      exponentials(work_of(group, row / kRows) + row % kRows, n, sums);
      factors[row] = embbert_mean_factor(sums[0]);
      factors[row + 1] = embbert_mean_factor(sums[1]);
    } else {
      factors[row] = factors[row + 1] = factors[row - 1];
    }
  }
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SOFTMAX);
  context(group, factors, xhat, n, d);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONTEXT);
}

embbert_status_t embbert_block_rows(const embbert_block_t* block, int8_t* x, int32_t n,
                                    int32_t rows, int8_t* out, void* scratch, size_t scratch_size,
                                    const embbert_hook_t* hook) {
  const int32_t d = block->hidden;
  const area_t area = {(uint8_t*)scratch, scratch_size & ~(size_t)7};
  EMBBERT_PROFILE_START(mark);
  normalize(block, x, n);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_NORM);
  group_t group;
  for (int32_t t = 0; t < rows; t += group.rows) {
    int8_t* const group_out = out + t * d;
    plan(&group, block, n, rows - t, group_out, &area);
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_QUERY);
    query(block, &group, x + t * d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_QUERY);
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    score(block, &group, x, n);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SCORES);
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    attend(&group, x, n, d);
    EMBBERT_PROFILE_RESTART(mark);
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    convolve(block, &group, x, t);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONV);
    project(block, &group, group_out);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_PROJECT);
  }
  return EMBBERT_OK;
}

#endif  // EMBBERT_USE_DSP

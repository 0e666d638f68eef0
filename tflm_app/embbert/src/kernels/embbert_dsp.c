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
// Scheduling before register allocation runs out of registers in `multiply`, which then spills.
#pragma GCC optimize("no-schedule-insns")
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

// Words of int8 matrices, which are 4-byte aligned.
typedef uint32_t __attribute__((may_alias)) word_t;

// One instruction each; arm_acle.h lacks the rotation of SXTB16 and some compilers the rest.
static inline int32_t smlad(uint32_t a, uint32_t b, int32_t acc) {
  int32_t sum;
  __asm__("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc) : "cc");
  return sum;
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
  uint32_t most;
  uint32_t difference;
  __asm__("ssub16 %1, %2, %3\n\tsel %0, %2, %3"
          : "=r"(most), "=&r"(difference)
          : "r"(a), "r"(b)
          : "cc");
  return most;
}

static inline uint32_t load_word(const void* bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
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

// results += block . panel over `pairs` (1 or more) pairs.
//
// In assembly: 8 accumulators, 4 operands and 2 pointers are all the registers there are, so the
// loop's bound lives on the stack. A jump into the unrolled loop does the pairs that are no
// multiple of its length first. 11 instructions a pair, 3 every 16 pairs and 18 a call.
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
static __attribute__((naked, noinline)) void multiply(const uint32_t* block __attribute__((unused)),
                                                      const uint32_t* panel __attribute__((unused)),
                                                      int32_t pairs __attribute__((unused)),
                                                      results_t results __attribute__((unused))) {
  __asm__ volatile(
      "add r12, r0, r2, lsl #4\n"  // the block's end
      "push {r3-r12, lr}\n"
      "ldm r3, {r4-r11}\n"
      "rsb r2, r2, #0\n"
      "and r2, r2, #15\n"  // steps to skip, of 11 instructions of 4 bytes
      "mov r3, #44\n"
      "mul r2, r2, r3\n"
      "add pc, r2\n"  // pc is two halfwords on
      "nop\n"
      "1:\n"  //
      EMBBERT_4_STEPS EMBBERT_4_STEPS EMBBERT_4_STEPS EMBBERT_4_STEPS
      "ldr r12, [sp, #36]\n"
      "cmp r0, r12\n"
      "bne 1b\n"
      "ldr r3, [sp]\n"
      "stm r3, {r4-r11}\n"
      "pop {r3-r12, pc}\n");
}
#undef EMBBERT_4_STEPS
#undef EMBBERT_STEP

// The first row alone: row[i] += first row of block . two int8 rows of `count` elements.
static void multiply_first(const uint32_t* block, const int8_t* row0, const int8_t* row1,
                           int32_t count, int32_t row[kColumns]) {
  int32_t s0 = row[0], s1 = row[1];
  for (const int8_t* const end = row0 + count; row0 != end; row0 += 4) {
    const uint32_t word0 = load_word(row0);
    const uint32_t word1 = load_word(row1);
    s0 = smlad(block[0], bytes_0_2(word0), s0);
    s1 = smlad(block[0], bytes_0_2(word1), s1);
    s0 = smlad(block[kRows], bytes_1_3(word0), s0);
    s1 = smlad(block[kRows], bytes_1_3(word1), s1);
    row1 += 4;
    block += 2 * kRows;
  }
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

// `to` is 8-byte aligned, as panels are.
static inline void store_pair(uint32_t* to, uint32_t word0, uint32_t word1) {
  typedef uint64_t __attribute__((may_alias)) pair_t;
  *(pair_t*)(void*)to = word0 | (uint64_t)word1 << 32;
}

// Two int8 rows of `count` (a multiple of 8) elements to a panel, zipped.
static inline void expand_rows(const int8_t* row0, const int8_t* row1, int32_t count,
                               uint32_t* panel) {
  const word_t* words0 = (const word_t*)(const void*)row0;
  const word_t* words1 = (const word_t*)(const void*)row1;
  const word_t* const end = words0 + count / 4;
#pragma GCC unroll 2
  while (words0 != end) {
    const uint32_t a0 = words0[0], a1 = words0[1];
    const uint32_t b0 = words1[0], b1 = words1[1];
    store_pair(panel, bytes_0_2(a0), bytes_0_2(b0));
    store_pair(panel + 2, bytes_1_3(a0), bytes_1_3(b0));
    store_pair(panel + 4, bytes_0_2(a1), bytes_0_2(b1));
    store_pair(panel + 6, bytes_1_3(a1), bytes_1_3(b1));
    words0 += 2;
    words1 += 2;
    panel += 8;
  }
}

// Columns 0 and 1 of x (count, stride) to a panel of pairs of rows; an odd last row is paired with
// itself.
static inline void expand_columns(const int8_t* x, int32_t stride, int32_t count, uint32_t* panel) {
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
static void plan(group_t* group, const embbert_block_t* block, int32_t n, int32_t left, int8_t* out,
                 const area_t* scratch) {
  const size_t d = (size_t)block->hidden;
  const size_t block_bytes = 8 * d + EMBBERT_SCRATCH_WORK(d, (size_t)block->expansion, (size_t)n);
  const size_t short_panel = EMBBERT_SCRATCH_PANEL((size_t)block->taps);
  group->qc_words = block_words(block->hidden);
  int32_t blocks = (left + kRows - 1) / kRows;
  if (blocks > kMostBlocks) blocks = kMostBlocks;
  for (;; blocks--) {
    group->rows = left < blocks * kRows ? left : blocks * kRows;
    const size_t used = (size_t)group->rows * d;
    const area_t behind = {(uint8_t*)out + used, (size_t)left * d - used};
    group->chunk = kLongChunk;
    if (place(group, blocks, block_bytes, 4 * kLongChunk, *scratch, behind)) return;
    group->chunk = kShortChunk;
    if (place(group, blocks, block_bytes, short_panel, *scratch, behind)) return;
  }
}

// results[block] += its rows . two int8 rows of `count` elements. `at` is where the rows lie in
// words from the block's memory on: 0 or qc_words.
static void multiply_rows(const group_t* group, int32_t at, const int8_t* row0, const int8_t* row1,
                          int32_t count, results_t* results) {
  if (group->rows == 1) {  // not worth a panel
    multiply_first(group->qc[0] + at, row0, row1, count, results[0][0]);
    return;
  }
  for (int32_t i = 0; i < count; i += group->chunk) {
    const int32_t part = count - i < group->chunk ? count - i : group->chunk;
    expand_rows(row0 + i, row1 + i, part, group->panel);
    for (int32_t b = 0; b < group->blocks; b++) {
      multiply(group->qc[b] + at, group->panel, part / 2, results[b]);
    }
    at += block_words(group->chunk);
  }
}

static void set_results(const group_t* group, int32_t column0, int32_t column1,
                        results_t* results) {
  for (int32_t b = 0; b < group->blocks; b++) {
#pragma GCC unroll 4
    for (int32_t r = 0; r < kRows; r++) {
      results[b][r][0] = column0;
      results[b][r][1] = column1;
    }
  }
}

void embbert_embed_rows(const embbert_embed_t* embed, const uint16_t* ids, const uint8_t* segments,
                        int32_t n, int8_t* out) {
  const int32_t r = embed->reduced;
  const int32_t d = embed->hidden;
  uint32_t block[kMaxInputs / 2 * kRows];
  uint32_t panel[kMaxInputs / 2 * kColumns];
  for (int32_t t = 0; t < n; t += kRows) {
    const int32_t rows = n - t < kRows ? n - t : kRows;
    const int8_t* tokens[kRows];
    const int8_t* positions[kRows];
    const int32_t* biases[kRows];
    for (int32_t i = 0; i < kRows; i++) {
      const int32_t row = t + (i < rows ? i : rows - 1);  // rows beyond the last repeat it
      tokens[i] = embed->token + ids[row] * r;
      positions[i] = embed->position + row * r;
      biases[i] = embed->bias + (segments != NULL && segments[row] == 2 ? d : 0);
    }
    expand_block(tokens, r, block);
    expand_block(positions, r, block + block_words(r));
    const int8_t* weight = embed->weight;  // (D, 2R)
    for (int32_t c = 0; c < d; c += kColumns) {
      results_t results;
      for (int32_t i = 0; i < kRows; i++) {
        results[i][0] = biases[i][c];
        results[i][1] = biases[i][c + 1];
      }
      expand_rows(weight, weight + 2 * r, 2 * r, panel);
      multiply(block, panel, r, results);
      weight += 2 * kColumns * r;
      for (int32_t i = 0; i < rows; i++) {
        int8_t* const to = out + (t + i) * d + c;
        to[0] = (int8_t)embbert_requantize(results[i][0], embed->shift, embed->multipliers[c],
                                           embed->zero);
        to[1] = (int8_t)embbert_requantize(results[i][1], embed->shift, embed->multipliers[c + 1],
                                           embed->zero);
      }
    }
  }
}

// x (n, D) in place.
static void normalize(const embbert_block_t* block, int8_t* x, int32_t n) {
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
static void query(const embbert_block_t* block, const group_t* group, const int8_t* xhat) {
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
  const int8_t* wq = block->wq;  // (D, D)
  for (int32_t c = 0; c < d; c += kColumns) {
    results_t results[kMostBlocks];
    set_results(group, block->bq[c], block->bq[c + 1], results);
    multiply_rows(group, group->qc_words, wq, wq + d, d, results);
    wq += kColumns * d;
    for (int32_t b = 0; b < group->blocks; b++) {
      int16_t* const to = (int16_t*)(void*)group->qc[b] + zipped(c);
#pragma GCC unroll 4
      for (int32_t r = 0; r < kRows; r++) {
        const int32_t q0 = embbert_requantize(results[b][r][0], shift, multiplier, zero);
        const int32_t q1 = embbert_requantize(results[b][r][1], shift, multiplier, zero);
        to[2 * r] = (int16_t)(q0 - zero);
        to[2 * r + 2 * kRows] = (int16_t)(q1 - zero);
      }
    }
  }
}

// q against xhat (n, D): scores in 1/256 octaves, pairs of neighbouring keys. An odd last key is
// paired with itself.
static void score(const embbert_block_t* block, const group_t* group, const int8_t* xhat,
                  int32_t n) {
  const int32_t d = block->hidden;
  const int32_t shift = block->score_shift, multiplier = block->score_multiplier;
  int32_t to = 0;
  for (int32_t j = 0; j < n; j += 2) {
    results_t results[kMostBlocks];
    set_results(group, 0, 0, results);
    multiply_rows(group, 0, xhat, j + 1 < n ? xhat + d : xhat, d, results);
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

// A score as its distance below the highest, to a weight.
static inline uint32_t weight_of(uint32_t below) {
  uint32_t clamped;
  __asm__("usat %0, #13, %1" : "=r"(clamped) : "r"(below) : "cc");
  const uint32_t doubled = 2u * embbert_exp2_table[clamped & 255];
  return ((doubled >> (clamped >> 8)) + 1) >> 1;
}

// One row of scores (n) to weights in place, in words kRows apart; returns their sum.
static uint32_t exponentials(uint32_t* row, int32_t n) {
  const uint32_t* const end = row + (n + 1) / 2 * kRows;
  uint32_t most = *row;
  for (const uint32_t* word = row; word != end; word += kRows) most = maximum_halves(most, *word);
  most = maximum_halves(most, most << 16 | most >> 16);  // in both halves
  int32_t sum = 0;
  for (; row != end; row += kRows) {
    uint32_t below;
    __asm__("ssub16 %0, %1, %2" : "=r"(below) : "r"(most), "r"(*row) : "cc");
    const uint32_t weights = low_halves(weight_of(below & 0xFFFF), weight_of(below >> 16));
    *row = weights;
    sum = smlad(weights, 0x10001, sum);
  }
  if ((n & 1) != 0) {  // the last key was counted twice
    uint32_t* const last = row - kRows;
    sum -= (int32_t)(*last >> 16);
    *last &= 0xFFFF;
  }
  return (uint32_t)sum;
}

// c = 256 * weights . xhat / sums, for xhat (n, D).
static void context(const group_t* group, const embbert_factor_t* factors, const int8_t* xhat,
                    int32_t n, int32_t d) {
  for (int32_t c = 0; c < d; c += kColumns) {
    results_t results[kMostBlocks];
    set_results(group, 0, 0, results);
    for (int32_t j = 0; j < n; j += group->chunk) {
      const int32_t part = n - j < group->chunk ? n - j : group->chunk;
      expand_columns(xhat + j * d + c, d, part, group->panel);
      for (int32_t b = 0; b < group->blocks; b++) {
        multiply(work_of(group, b) + block_words(j), group->panel, (part + 1) / 2, results[b]);
      }
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

// `zeros` zeros and then `count` rows of two neighbouring columns, as int16.
static void copy_columns(const int8_t* columns, int32_t stride, int32_t zeros, int32_t count,
                         int16_t* column0, int16_t* column1) {
  for (; zeros > 0; zeros--) {
    *column0++ = 0;
    *column1++ = 0;
  }
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

// acc[i] += sum_k x[2 * i + k] * w[k] over `taps` (a multiple of kConvRound) taps.
static inline void slide(const int16_t* x, const int8_t* w, int32_t taps, int32_t acc[4]) {
  int32_t s0 = acc[0], s1 = acc[1], s2 = acc[2], s3 = acc[3];
  uint32_t x0 = load_word(x), x1 = load_word(x + 2), x2 = load_word(x + 4);
  x += 6;
  for (const int8_t* const end = w + taps; w != end; w += 8) {
    uint32_t even = bytes_0_2(load_word(w));
    uint32_t odd = bytes_1_3(load_word(w));
    uint32_t weight = low_halves(even, odd);
    uint32_t x3 = load_word(x);
    s0 = smlad(x0, weight, s0);
    s1 = smlad(x1, weight, s1);
    s2 = smlad(x2, weight, s2);
    s3 = smlad(x3, weight, s3);
    weight = high_halves(even, odd);
    x0 = load_word(x + 2);
    s0 = smlad(x1, weight, s0);
    s1 = smlad(x2, weight, s1);
    s2 = smlad(x3, weight, s2);
    s3 = smlad(x0, weight, s3);
    even = bytes_0_2(load_word(w + 4));
    odd = bytes_1_3(load_word(w + 4));
    weight = low_halves(even, odd);
    x1 = load_word(x + 4);
    s0 = smlad(x2, weight, s0);
    s1 = smlad(x3, weight, s1);
    s2 = smlad(x0, weight, s2);
    s3 = smlad(x1, weight, s3);
    weight = high_halves(even, odd);
    x2 = load_word(x + 6);
    s0 = smlad(x3, weight, s0);
    s1 = smlad(x0, weight, s1);
    s2 = smlad(x1, weight, s2);
    s3 = smlad(x2, weight, s3);
    x += 8;
  }
  acc[0] = s0, acc[1] = s1, acc[2] = s2, acc[3] = s3;
}

// Rows t.. t+count-1 of SiLU(causal depthwise convolution of xhat (n, D)), to the blocks of s (E*D)
// from block `to_block` on.
static void convolve_rows(const embbert_block_t* block, const group_t* group, const int8_t* xhat,
                          int32_t t, int32_t count, int32_t to_block) {
  const int32_t d = block->hidden;
  const int32_t e = block->expansion;
  const int32_t end = t + count;
  // Padding taps are zero, and they come first; so do the rows before the sentence.
  const int32_t taps = padded_taps(block, end - 1);
  const int32_t first = t - taps + 1;
  const int32_t absent_rows = embbert_larger(-first, 0);
  const int32_t window = taps + (count + 7) / 8 * 8;  // the last one is not used
  int16_t* const x = (int16_t*)(void*)group->panel;   // windows of two columns
  int8_t padded[EMBBERT_MAX_TAPS];                    // taps, where some are absent
  const int32_t absent_taps = embbert_larger(taps - block->taps, 0);
  memset(x, 0, 4 * (size_t)window);
  memset(padded, 0, sizeof(padded));
  const int32_t shift = block->conv_shift, zero = block->y_zero;
  const int8_t* const silu = block->silu + 128;
  const int8_t* channel_taps = block->conv;
  int32_t channel = 0;
  for (int32_t c = 0; c < d; c += 2) {
    copy_columns(xhat + (first + absent_rows) * d + c, d, absent_rows, end - first - absent_rows, x,
                 x + window);
    for (int32_t i = 0; i < 2 * e; i++) {
      const int16_t* const column = i < e ? x : x + window;
      const int8_t* w = channel_taps + block->taps - taps;
      if (absent_taps > 0) {
        memcpy(padded + absent_taps, channel_taps, (size_t)block->taps);
        w = padded;
      }
      channel_taps += block->taps;
      const int32_t multiplier = block->conv_multipliers[channel];
      const int32_t bias = block->conv_bias[channel];
      const int32_t at = zipped(channel);
      channel++;
      for (int32_t row = 0; row < count; row += 8) {  // rows row, row+2, ...; row+1, ...
        const int32_t b = to_block + row / kRows;
        int16_t* to = (int16_t*)(void*)work_of(group, b) + at;
        int16_t* next = row + kRows < count ? (int16_t*)(void*)work_of(group, b + 1) + at : NULL;
        for (int32_t odd = 0; odd < 2 && row + odd < count; odd++) {
          int32_t acc[4] = {bias, bias, bias, bias};
          slide(column + row + odd, w, taps, acc);
          to[0] = silu[embbert_requantize(acc[0], shift, multiplier, zero)];
          to[4] = silu[embbert_requantize(acc[1], shift, multiplier, zero)];
          to += 2;
          if (next == NULL) continue;
          next[0] = silu[embbert_requantize(acc[2], shift, multiplier, zero)];
          next[4] = silu[embbert_requantize(acc[3], shift, multiplier, zero)];
          next += 2;
        }
      }
    }
  }
}

// The same for all rows of the group, as many at a time as the columns' windows have room for.
static void convolve(const embbert_block_t* block, const group_t* group, const int8_t* xhat,
                     int32_t t) {
  const int32_t room = (int32_t)(group->panel_bytes / 4) - padded_taps(block, EMBBERT_MAX_LENGTH);
  const int32_t most = room / 8 * 8;
  for (int32_t row = 0; row < group->rows; row += most) {
    const int32_t count = group->rows - row < most ? group->rows - row : most;
    convolve_rows(block, group, xhat, t + row, count, row / kRows);
  }
}

// c.Wv + s.Wz + bz: rows of out.
static void project(const embbert_block_t* block, const group_t* group, int8_t* out) {
  const int32_t d = block->hidden;
  const int32_t inner = block->expansion * d;
  const int8_t* wv = block->wv;  // (D, D)
  const int8_t* wz = block->wz;  // (D, E*D)
  const int32_t a_shift = block->a_shift, a_multiplier = block->a_multiplier;
  const int32_t z_shift = block->z_shift, z_multiplier = block->z_multiplier;
  const int32_t zero = block->out_zero * 256 + 128;
  for (int32_t c = 0; c < d; c += kColumns) {
    results_t a[kMostBlocks];
    results_t z[kMostBlocks];
    set_results(group, 0, 0, a);
    set_results(group, block->bz[c], block->bz[c + 1], z);
    multiply_rows(group, 0, wv, wv + d, d, a);
    multiply_rows(group, group->qc_words, wz, wz + inner, inner, z);
    wv += kColumns * d;
    wz += kColumns * inner;
    int8_t* to = out + c;
    const int32_t(*a_row)[kColumns] = a[0];
    const int32_t(*z_row)[kColumns] = z[0];
    for (int32_t row = 0; row < group->rows; row++) {
#pragma GCC unroll 2
      for (int32_t i = 0; i < kColumns; i++) {
        int32_t sum =
            embbert_multiply_high_add(embbert_shift_left((*a_row)[i], a_shift), a_multiplier, zero);
        sum =
            embbert_multiply_high_add(embbert_shift_left((*z_row)[i], z_shift), z_multiplier, sum);
        to[i] = (int8_t)embbert_saturate8_of_256ths(sum);
      }
      to += d;
      a_row++;
      z_row++;
    }
  }
}

// EMBBERT_BLOCK_SCRATCH_BYTES of the header knows these.
_Static_assert(kRows == 4 && kShortChunk / 2 * kColumns == 64 && kConvRound == 8, "scratch");
_Static_assert(EMBBERT_MAX_TAPS + 8 <= kLongChunk / 2 * kColumns, "the convolution's windows");

// Softmax of the group's scores, and c. Factors of all rows at once are too much for the frame of
// the caller, which others need as well.
static void attend(group_t* group, const int8_t* xhat, int32_t n, int32_t d) {
  embbert_factor_t factors[kMostRows];
  EMBBERT_PROFILE_START(mark);
  for (int32_t row = 0; row < group->blocks * kRows; row++) {
    factors[row] = embbert_mean_factor(exponentials(work_of(group, row / kRows) + row % kRows, n));
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

// Armv8.1-M MVE implementation (Cortex-M55, Cortex-M85).
//
// Everything is a dot product: VMLADAVA multiplies 16 pairs of int8, or 8 pairs of int16, and adds
// the products up in a general register. Three rows meet two columns at a time: 5 loads for 6 dot
// products, and no operand needs preparing but the convolution's, which slides along columns. Loads
// widen int8 beside int16, gather the columns of xhat, and are predicated at the tails.

#include "embbert_internal.h"

#ifdef EMBBERT_USE_MVE

#if defined(__GNUC__) && !defined(__clang__)
// The six results of a dot product stay in registers; GCC would collect them in vectors.
#pragma GCC optimize("no-tree-slp-vectorize")
#endif

#include <arm_mve.h>
#include <string.h>

const char embbert_implementation[] = "mve";

enum {
  kRows = 3,     // rows and
  kColumns = 2,  // columns of results at a time
  kGroup = 2 * kRows,
  kTapsRound = 16,  // the convolution's taps are padded to a multiple of this
  kMaxInputs = 2 * EMBBERT_MAX_REDUCED,
};

typedef struct {
  int32_t r00, r01;  // row 0, columns 0 and 1
  int32_t r10, r11;
  int32_t r20, r21;
} results_t;

// A group of query rows on its way through a layer, with its scratch.
typedef struct {
  int32_t rows;         // 1..kGroup
  int32_t padded_rows;  // kRows or kGroup: the others' scratch rows are computed and not used
  int8_t* q;            // (padded_rows, D); then, in the same place,
  int16_t* c;           // (padded_rows, D)
  int16_t* weights;     // (padded_rows, padded_n) scores, then softmax weights; then,
  int8_t* s;            //   in the same place, (padded_rows, E*D)
  int32_t* sums;        // (n) what the scores of each key begin with
  int8_t* columns;      // the convolution's window and taps of one channel
  int32_t padded_n;     // n, rounded up to a multiple of 8
} group_t;

// One step of three rows of vectors a0, a1, a2 against two, b0 and b1.
#define MULTIPLY(suffix)                           \
  do {                                             \
    acc.r00 = vmladavaq_##suffix(acc.r00, a0, b0); \
    acc.r01 = vmladavaq_##suffix(acc.r01, a0, b1); \
    acc.r10 = vmladavaq_##suffix(acc.r10, a1, b0); \
    acc.r11 = vmladavaq_##suffix(acc.r11, a1, b1); \
    acc.r20 = vmladavaq_##suffix(acc.r20, a2, b0); \
    acc.r21 = vmladavaq_##suffix(acc.r21, a2, b1); \
  } while (0)

// acc + three int8 rows against two, `count` a multiple of 16.
static inline results_t dot_int8(results_t acc, const int8_t* row0, const int8_t* row1,
                                 const int8_t* row2, const int8_t* column0, const int8_t* column1,
                                 int32_t count) {
  for (; count > 0; count -= 16) {
    const int8x16_t b0 = vld1q_s8(column0), b1 = vld1q_s8(column1);
    const int8x16_t a0 = vld1q_s8(row0), a1 = vld1q_s8(row1), a2 = vld1q_s8(row2);
    MULTIPLY(s8);
    column0 += 16, column1 += 16;
    row0 += 16, row1 += 16, row2 += 16;
  }
  return acc;
}

// acc + three int16 rows against two int8 rows, `count` a multiple of 8.
static inline results_t dot_int16(results_t acc, const int16_t* row0, const int16_t* row1,
                                  const int16_t* row2, const int8_t* column0, const int8_t* column1,
                                  int32_t count) {
  for (; count > 0; count -= 8) {
    const int16x8_t b0 = vldrbq_s16(column0), b1 = vldrbq_s16(column1);
    const int16x8_t a0 = vld1q_s16(row0), a1 = vld1q_s16(row1), a2 = vld1q_s16(row2);
    MULTIPLY(s16);
    column0 += 8, column1 += 8;
    row0 += 8, row1 += 8, row2 += 8;
  }
  return acc;
}

// Three int16 rows (count, padded with zeros to a multiple of 8) against the int8 columns 0 and 1
// of x (count, stride), `offsets` being 0, stride, ... 7 * stride.
static inline results_t dot_columns(const int16_t* row0, const int16_t* row1, const int16_t* row2,
                                    const int8_t* x, int32_t stride, uint16x8_t offsets,
                                    int32_t count) {
  results_t acc = {0, 0, 0, 0, 0, 0};
  const uint16x8_t next = vaddq_n_u16(offsets, 1);
  for (; count >= 8; count -= 8) {
    const int16x8_t b0 = vldrbq_gather_offset_s16(x, offsets);
    const int16x8_t b1 = vldrbq_gather_offset_s16(x, next);
    const int16x8_t a0 = vld1q_s16(row0), a1 = vld1q_s16(row1), a2 = vld1q_s16(row2);
    MULTIPLY(s16);
    x += 8 * stride;
    row0 += 8, row1 += 8, row2 += 8;
  }
  if (count > 0) {
    const mve_pred16_t tail = vctp16q((uint32_t)count);
    const int16x8_t b0 = vldrbq_gather_offset_z_s16(x, offsets, tail);
    const int16x8_t b1 = vldrbq_gather_offset_z_s16(x, next, tail);
    const int16x8_t a0 = vld1q_s16(row0), a1 = vld1q_s16(row1), a2 = vld1q_s16(row2);
    MULTIPLY(s16);
  }
  return acc;
}

static inline results_t columns_of(int32_t column0, int32_t column1) {
  return (results_t){column0, column1, column0, column1, column0, column1};
}

// To `rows` int8 rows.
static inline void store_int8(results_t acc, int32_t shift, int32_t multiplier0,
                              int32_t multiplier1, int32_t zero, int32_t rows, int8_t* to,
                              int32_t stride) {
  to[0] = (int8_t)embbert_requantize(acc.r00, shift, multiplier0, zero);
  to[1] = (int8_t)embbert_requantize(acc.r01, shift, multiplier1, zero);
  if (rows == 1) return;
  to += stride;
  to[0] = (int8_t)embbert_requantize(acc.r10, shift, multiplier0, zero);
  to[1] = (int8_t)embbert_requantize(acc.r11, shift, multiplier1, zero);
  if (rows == 2) return;
  to += stride;
  to[0] = (int8_t)embbert_requantize(acc.r20, shift, multiplier0, zero);
  to[1] = (int8_t)embbert_requantize(acc.r21, shift, multiplier1, zero);
}

void embbert_embed_rows(const embbert_embed_t* embed, const uint16_t* ids, const uint8_t* segments,
                        int32_t n, int8_t* out) {
  const int32_t r = embed->reduced;
  const int32_t d = embed->hidden;
  const int32_t inputs = 2 * r;
  const int32_t whole = inputs & ~15;
  const mve_pred16_t tail = vctp8q((uint32_t)(inputs - whole));
  const int32_t shift = embed->shift, zero = embed->zero;
  for (int32_t t = 0; t < n; t += kRows) {
    const int32_t rows = n - t < kRows ? n - t : kRows;
    int8_t input[kRows][kMaxInputs];
    const int32_t* biases[kRows];
    for (int32_t i = 0; i < kRows; i++) {
      const int32_t row = t + (i < rows ? i : rows - 1);  // rows beyond the last repeat it
      memcpy(input[i], embed->token + ids[row] * r, (size_t)r);
      memcpy(input[i] + r, embed->position + row * r, (size_t)r);
      biases[i] = embed->bias + (segments != NULL && segments[row] == 2 ? d : 0);
    }
    const int32_t* multipliers = embed->multipliers;
    const int8_t* weight = embed->weight;  // (D, 2R)
    int8_t* to = out + t * d;
    for (int32_t c = 0; c < d; c += kColumns) {
      results_t acc = {biases[0][c],     biases[0][c + 1], biases[1][c],
                       biases[1][c + 1], biases[2][c],     biases[2][c + 1]};
      acc = dot_int8(acc, input[0], input[1], input[2], weight, weight + inputs, whole);
      if (whole != inputs) {
        const int8x16_t b0 = vldrbq_z_s8(weight + whole, tail);
        const int8x16_t b1 = vldrbq_z_s8(weight + inputs + whole, tail);
        const int8x16_t a0 = vldrbq_z_s8(input[0] + whole, tail);
        const int8x16_t a1 = vldrbq_z_s8(input[1] + whole, tail);
        const int8x16_t a2 = vldrbq_z_s8(input[2] + whole, tail);
        MULTIPLY(s8);
      }
      weight += kColumns * inputs;
      store_int8(acc, shift, multipliers[0], multipliers[1], zero, rows, to, d);
      multipliers += kColumns;
      to += kColumns;
    }
  }
}

// x (n, D) in place; sums (n) of each row of the result, times -(zero point of the query).
static void normalize(const embbert_block_t* block, int8_t* x, int32_t n, int32_t* sums) {
  const int32_t d = block->hidden;
  const int16_t zero = (int16_t)block->x_zero;
  for (int32_t t = 0; t < n; t++) {
    int32_t squares = 0;
    for (int32_t i = 0; i < d; i += 8) {
      const int16x8_t centred = vsubq_n_s16(vldrbq_s16(x + i), zero);
      squares = vmladavaq_s16(squares, centred, centred);
    }
    const embbert_factor_t factor = embbert_norm_factor(block, (uint32_t)squares);
    const int32x4_t multiplier = vdupq_n_s32(factor.multiplier);
    int32_t sum = 0;
    for (int32_t i = 0; i < d; i += 8) {
      const int16x8_t centred = vsubq_n_s16(vldrbq_s16(x), zero);
      const int32x4_t even =
          vrmulhq_s32(vshlq_r_s32(vmovlbq_s16(centred), factor.shift), multiplier);
      const int32x4_t odd =
          vrmulhq_s32(vshlq_r_s32(vmovltq_s16(centred), factor.shift), multiplier);
      int16x8_t xhat = vqmovntq_s32(vqmovnbq_s32(centred, even), odd);
      xhat = vmaxq_s16(vminq_s16(xhat, vdupq_n_s16(127)), vdupq_n_s16(-128));
      vstrbq_s16(x, xhat);
      sum = vaddvaq_s16(sum, xhat);
      x += 8;
    }
    *sums++ = -block->q_zero * sum;
  }
}

// Rows of xhat from `xhat` on to q. Rows beyond the group's last repeat it.
static void query(const embbert_block_t* block, const group_t* group, const int8_t* xhat) {
  const int32_t d = block->hidden;
  const int32_t shift = block->q_shift, multiplier = block->q_multiplier, zero = block->q_zero;
  for (int32_t row = 0; row < group->padded_rows; row += kRows) {
    const int8_t* rows[kRows];
    for (int32_t i = 0; i < kRows; i++) {
      rows[i] = xhat + (row + i < group->rows ? row + i : group->rows - 1) * d;
    }
    const int8_t* wq = block->wq;  // (D, D)
    const int32_t* bq = block->bq;
    int8_t* to = group->q + row * d;
    for (int32_t c = 0; c < d; c += kColumns) {
      const results_t acc =
          dot_int8(columns_of(bq[0], bq[1]), rows[0], rows[1], rows[2], wq, wq + d, d);
      store_int8(acc, shift, multiplier, multiplier, zero, kRows, to, d);
      wq += kColumns * d;
      bq += kColumns;
      to += kColumns;
    }
  }
}

static inline int16_t score_of(int32_t acc, int32_t shift, int32_t multiplier) {
  int32_t scaled = embbert_multiply_high(embbert_shift_left(acc, shift), multiplier);
  __asm__("ssat %0, #16, %1" : "=r"(scaled) : "r"(scaled) : "cc");
  return (int16_t)scaled;
}

// q against xhat (n, D): scores in 1/256 octaves. q's zero point is in `sums`.
static void score(const embbert_block_t* block, const group_t* group, const int8_t* xhat,
                  int32_t n) {
  const int32_t d = block->hidden;
  const int32_t shift = block->score_shift, multiplier = block->score_multiplier;
  const int32_t stride = group->padded_n;
  for (int32_t row = 0; row < group->padded_rows; row += kRows) {
    const int8_t* const q0 = group->q + row * d;
    const int8_t* const q1 = q0 + d;
    const int8_t* const q2 = q1 + d;
    const int8_t* key = xhat;
    const int32_t* sums = group->sums;
    int16_t* to0 = group->weights + row * stride;
    int16_t* to1 = to0 + stride;
    int16_t* to2 = to1 + stride;
    for (int32_t j = 0; j < n; j += kColumns) {
      const int32_t next = j + 1 < n ? 1 : 0;  // an odd last key is computed twice
      const results_t acc =
          dot_int8(columns_of(sums[0], sums[next]), q0, q1, q2, key, key + next * d, d);
      to0[0] = score_of(acc.r00, shift, multiplier);
      to0[1] = score_of(acc.r01, shift, multiplier);
      to1[0] = score_of(acc.r10, shift, multiplier);
      to1[1] = score_of(acc.r11, shift, multiplier);
      to2[0] = score_of(acc.r20, shift, multiplier);
      to2[1] = score_of(acc.r21, shift, multiplier);
      key += kColumns * d;
      sums += kColumns;
      to0 += kColumns, to1 += kColumns, to2 += kColumns;
    }
  }
}

// One row of scores (n) to weights in place, the padding to zero; returns their sum.
static uint32_t exponentials(int16_t* row, int32_t n, int32_t padded_n) {
  for (int32_t j = n; j < padded_n; j++) row[j] = -32768;
  int16_t highest = -32768;
  for (int32_t j = 0; j < padded_n; j += 8) highest = vmaxvq_s16(highest, vld1q_s16(row + j));
  const uint16x8_t most = vdupq_n_u16((uint16_t)highest);
  uint16_t* const weights = (uint16_t*)row;
  uint32_t sum = 0;
  for (int32_t j = 0; j < padded_n; j += 8) {
    uint16x8_t below = vsubq_u16(most, vld1q_u16(weights + j));
    below = vminq_u16(below, vdupq_n_u16(EMBBERT_SCORE_FLOOR));
    const uint16x8_t fraction = vandq_u16(below, vdupq_n_u16(255));
    const uint16x8_t one_octave = vldrhq_gather_shifted_offset_u16(embbert_exp2_table, fraction);
    const int16x8_t octaves = vreinterpretq_s16_u16(vshrq_n_u16(below, 8));
    const uint16x8_t weight = vrshlq_u16(one_octave, vnegq_s16(octaves));
    vst1q_u16(weights + j, weight);
    sum = vaddvaq_u16(sum, weight);
  }
  for (int32_t j = n; j < padded_n; j++) {
    sum -= weights[j];
    weights[j] = 0;
  }
  return sum;
}

// `count` int8, the `offsets` (0, stride, ... 7 * stride) apart, to neighbouring ones.
static inline void gather(const int8_t* from, int32_t stride, uint16x8_t offsets, int32_t count,
                          int8_t* to) {
  for (; count >= 8; count -= 8) {
    vstrbq_s16(to, vldrbq_gather_offset_s16(from, offsets));
    from += 8 * stride;
    to += 8;
  }
  if (count > 0) {
    const mve_pred16_t tail = vctp16q((uint32_t)count);
    vstrbq_p_s16(to, vldrbq_gather_offset_z_s16(from, offsets, tail), tail);
  }
}

static inline uint16x8_t multiples_of(int32_t stride) {
  return vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)stride);
}

static inline int16_t mean_of(int32_t acc, embbert_factor_t factor) {
  return (int16_t)embbert_multiply_high(embbert_shift_left(acc, factor.shift), factor.multiplier);
}

// c = 256 * weights . xhat / sums, for xhat (n, D).
static void context(const group_t* group, const embbert_factor_t* factors, const int8_t* xhat,
                    int32_t n, int32_t d) {
  const int32_t stride = group->padded_n;
  const uint16x8_t offsets = multiples_of(d);
  for (int32_t row = 0; row < group->padded_rows; row += kRows) {
    const int16_t* const weights0 = group->weights + row * stride;
    const int16_t* const weights1 = weights0 + stride;
    const int16_t* const weights2 = weights1 + stride;
    const embbert_factor_t factor0 = factors[row];
    const embbert_factor_t factor1 = factors[row + 1];
    const embbert_factor_t factor2 = factors[row + 2];
    int16_t* to = group->c + row * d;
    for (int32_t c = 0; c < d; c += kColumns) {
      const results_t acc = dot_columns(weights0, weights1, weights2, xhat + c, d, offsets, n);
      to[0] = mean_of(acc.r00, factor0);
      to[1] = mean_of(acc.r01, factor0);
      to[d] = mean_of(acc.r10, factor1);
      to[d + 1] = mean_of(acc.r11, factor1);
      to[2 * d] = mean_of(acc.r20, factor2);
      to[2 * d + 1] = mean_of(acc.r21, factor2);
      to += kColumns;
    }
  }
}

// Taps that the convolution of rows up to `last` computes with, padded.
static int32_t padded_taps(const embbert_block_t* block, int32_t last) {
  const int32_t taps = block->taps < last + 1 ? block->taps : last + 1;
  return (taps + kTapsRound - 1) / kTapsRound * kTapsRound;
}

// Rows t.. of SiLU(causal depthwise convolution of xhat (n, D)), to s (rows, E*D).
static void convolve(const embbert_block_t* block, const group_t* group, const int8_t* xhat,
                     int32_t t) {
  const int32_t d = block->hidden;
  const int32_t e = block->expansion;
  const int32_t inner = e * d;
  const int32_t shift = block->conv_shift, zero = block->y_zero;
  const int8_t* const silu = block->silu + 128;
  // Padding taps are zero, and they come first; so do the rows before the sentence.
  const int32_t taps = padded_taps(block, t + group->rows - 1);
  const int32_t absent_taps = embbert_larger(taps - block->taps, 0);
  const int32_t first = t - taps + 1;
  const int32_t absent_rows = embbert_larger(-first, 0);
  const int32_t present_rows = t + group->rows - first - absent_rows;
  const uint16x8_t offsets = multiples_of(d);
  int8_t* const padded = group->columns;  // taps, where some are absent
  int8_t* const x = padded + taps;        // (taps + kGroup)
  memset(padded, 0, (size_t)(2 * taps + kGroup));
  const int8_t* channel_taps = block->conv;
  xhat += (first + absent_rows) * d;
  int8_t* to = group->s;
  const int32_t* multipliers = block->conv_multipliers;
  const int32_t* biases = block->conv_bias;
  for (int32_t c = 0; c < d; c++) {
    gather(xhat++, d, offsets, present_rows, x + absent_rows);
    for (int32_t i = 0; i < e; i++) {
      const int8_t* w = channel_taps + block->taps - taps;
      if (absent_taps > 0) {
        memcpy(padded + absent_taps, channel_taps, (size_t)block->taps);
        w = padded;
      }
      channel_taps += block->taps;
      const int32_t bias = *biases++;
      int32_t s0 = bias, s1 = bias, s2 = bias, s3 = bias, s4 = bias, s5 = bias;
      const int8_t* window = x;
      for (int32_t k = 0; k < taps; k += kTapsRound) {
        const int8x16_t weight = vld1q_s8(w + k);
        s0 = vmladavaq_s8(s0, vld1q_s8(window), weight);
        s1 = vmladavaq_s8(s1, vld1q_s8(window + 1), weight);
        s2 = vmladavaq_s8(s2, vld1q_s8(window + 2), weight);
        s3 = vmladavaq_s8(s3, vld1q_s8(window + 3), weight);
        s4 = vmladavaq_s8(s4, vld1q_s8(window + 4), weight);
        s5 = vmladavaq_s8(s5, vld1q_s8(window + 5), weight);
        window += kTapsRound;
      }
      const int32_t multiplier = *multipliers++;
      int8_t* row = to++;
      row[0] = silu[embbert_requantize(s0, shift, multiplier, zero)];
      row[inner] = silu[embbert_requantize(s1, shift, multiplier, zero)];
      row[2 * inner] = silu[embbert_requantize(s2, shift, multiplier, zero)];
      if (group->padded_rows == kRows) continue;
      row += 3 * inner;
      row[0] = silu[embbert_requantize(s3, shift, multiplier, zero)];
      row[inner] = silu[embbert_requantize(s4, shift, multiplier, zero)];
      row[2 * inner] = silu[embbert_requantize(s5, shift, multiplier, zero)];
    }
  }
}

typedef struct {
  int32_t a_shift, a_multiplier, z_shift, z_multiplier, zero;
} difference_t;

static inline int8_t difference_of(int32_t a, int32_t z, const difference_t* by) {
  int32_t sum =
      embbert_multiply_high_add(embbert_shift_left(a, by->a_shift), by->a_multiplier, by->zero);
  sum = embbert_multiply_high_add(embbert_shift_left(z, by->z_shift), by->z_multiplier, sum);
  return (int8_t)embbert_saturate8_of_256ths(sum);
}

// c.Wv + s.Wz + bz: rows of out.
static void project(const embbert_block_t* block, const group_t* group, int8_t* out) {
  const int32_t d = block->hidden;
  const int32_t inner = block->expansion * d;
  const difference_t by = {block->a_shift, block->a_multiplier, block->z_shift, block->z_multiplier,
                           block->out_zero * 256 + 128};
  for (int32_t row = 0; row < group->rows; row += kRows) {
    const int32_t rows = group->rows - row;
    const int16_t* const c0 = group->c + row * d;
    const int8_t* const s0 = group->s + row * inner;
    const int8_t* wv = block->wv;  // (D, D)
    const int8_t* wz = block->wz;  // (D, E*D)
    const int32_t* bz = block->bz;
    int8_t* to = out + row * d;
    for (int32_t c = 0; c < d; c += kColumns) {
      const results_t a = dot_int16(columns_of(0, 0), c0, c0 + d, c0 + 2 * d, wv, wv + d, d);
      const results_t z =
          dot_int8(columns_of(bz[0], bz[1]), s0, s0 + inner, s0 + 2 * inner, wz, wz + inner, inner);
      wv += kColumns * d;
      wz += kColumns * inner;
      bz += kColumns;
      to[0] = difference_of(a.r00, z.r00, &by);
      to[1] = difference_of(a.r01, z.r01, &by);
      if (rows > 1) {
        to[d] = difference_of(a.r10, z.r10, &by);
        to[d + 1] = difference_of(a.r11, z.r11, &by);
      }
      if (rows > 2) {
        to[2 * d] = difference_of(a.r20, z.r20, &by);
        to[2 * d + 1] = difference_of(a.r21, z.r21, &by);
      }
      to += kColumns;
    }
  }
}

// EMBBERT_BLOCK_SCRATCH_BYTES of the header knows these.
_Static_assert(kGroup == 6 && kRows == 3 && kTapsRound == 16, "rows of a group");

embbert_status_t embbert_block_rows(const embbert_block_t* block, int8_t* x, int32_t n,
                                    int32_t rows, int8_t* out, void* scratch, size_t scratch_size,
                                    const embbert_hook_t* hook) {
  (void)scratch_size;
  const int32_t d = block->hidden;
  const uint32_t e = (uint32_t)block->expansion;
  uint8_t* next = (uint8_t*)scratch;
  group_t group;
  group.q = (int8_t*)next;
  group.c = (int16_t*)(void*)next;
  next += EMBBERT_SCRATCH_CONTEXT((uint32_t)d, (uint32_t)n);
  group.weights = (int16_t*)(void*)next;
  group.s = (int8_t*)next;
  next += EMBBERT_SCRATCH_WEIGHTS((uint32_t)d, e, (uint32_t)n);
  group.sums = (int32_t*)(void*)next;
  next += EMBBERT_SCRATCH_SUMS((uint32_t)n);
  group.columns = (int8_t*)next;
  group.padded_n = (int32_t)EMBBERT_ROUND_UP((uint32_t)n, 8u);

  EMBBERT_PROFILE_START(mark);
  normalize(block, x, n, group.sums);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_NORM);
  for (int32_t t = 0; t < rows; t += kGroup) {
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    group.rows = rows - t < kGroup ? rows - t : kGroup;
    group.padded_rows = group.rows > kRows ? kGroup : kRows;
    query(block, &group, x + t * d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_QUERY);
    score(block, &group, x, n);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SCORES);
    embbert_factor_t factors[kGroup];
    for (int32_t row = 0; row < group.padded_rows; row++) {
      factors[row] = embbert_mean_factor(
          exponentials(group.weights + row * group.padded_n, n, group.padded_n));
    }
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SOFTMAX);
    context(&group, factors, x, n, d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONTEXT);
    convolve(block, &group, x, t);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONV);
    project(block, &group, out + t * d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_PROJECT);
  }
  return EMBBERT_OK;
}

#endif  // EMBBERT_USE_MVE

// Portable implementation: two query rows at a time, two columns at a time. The other two give its
// bytes.
//
// A product of 2 x 2 sums loads four numbers for four multiplications, where a plain dot product
// loads eight. What is multiplied with weights is widened to int16 once, so that there is one such
// product for weights of 8 bits and one for codes of 4.

#include "embbert_internal.h"

#ifdef EMBBERT_USE_PORTABLE

#include <string.h>

const char embbert_implementation[] = "portable";

// Two query rows on their way through a layer; the second is the first where there is one alone.
typedef struct {
  int16_t* q[2];       // (D), zero point taken off; later c (D) in 1/256 steps of xhat
  int16_t* scores[2];  // (n) in 1/256 octaves, then softmax weights up to 32767
  int16_t* wide[2];    // xhat (D), later s (E*D)
} pair_t;

static pair_t lay_out(const embbert_block_t* block, int32_t n, int32_t rows, void* scratch) {
  const size_t d = (size_t)block->hidden;
  const size_t e = (size_t)block->expansion;
  pair_t pair;
  for (int r = 0; r < 2; r++) {
    uint8_t* const base =
        (uint8_t*)scratch + (r < rows ? (size_t)r * EMBBERT_SCRATCH_ROW(d, e, (size_t)n) : 0);
    pair.q[r] = (int16_t*)(void*)base;
    pair.wide[r] = pair.q[r] + d;
    pair.scores[r] = pair.wide[r] + e * d;
  }
  return pair;
}

// Sums of two rows by two columns.
typedef struct {
  int32_t at[2][2];
} sums_t;

// Two rows (count) . two rows of int8; count is a multiple of 8.
static sums_t multiply_bytes(const int16_t* a0, const int16_t* a1, const int8_t* b0,
                             const int8_t* b1, int32_t count) {
  int32_t s00 = 0, s01 = 0, s10 = 0, s11 = 0;
  for (const int16_t* const end = a0 + count; a0 != end; a0 += 8) {
#pragma GCC unroll 8
    for (int32_t i = 0; i < 8; i++) {
      s00 += a0[i] * b0[i];
      s01 += a0[i] * b1[i];
      s10 += a1[i] * b0[i];
      s11 += a1[i] * b1[i];
    }
    a1 += 8;
    b0 += 8;
    b1 += 8;
  }
  return (sums_t){{{s00, s01}, {s10, s11}}};
}

// Two rows (count) . two rows of codes, a byte for both; count is a multiple of 8.
static sums_t multiply_codes(const int16_t* a0, const int16_t* a1, const int8_t* codes,
                             int32_t count) {
  int32_t first0 = 0, both0 = 0, first1 = 0, both1 = 0;
  for (const int16_t* const end = a0 + count; a0 != end; a0 += 8) {
#pragma GCC unroll 8
    for (int32_t i = 0; i < 8; i++) {
      const int32_t both = codes[i], first = embbert_first_code(both);
      first0 += a0[i] * first;
      both0 += a0[i] * both;
      first1 += a1[i] * first;
      both1 += a1[i] * both;
    }
    a1 += 8;
    codes += 8;
  }
  return (sums_t){{{first0, (both0 - first0) >> 4}, {first1, (both1 - first1) >> 4}}};
}

// Two rows (count) . rows c and c + 1 of a matrix of int8, or with factors of codes; c is even.
static sums_t multiply_weights(int16_t* const rows[2], const int8_t* weights, const int8_t* factors,
                               int32_t c, int32_t count) {
  if (factors == NULL) {
    const int8_t* const b = weights + c * count;
    return multiply_bytes(rows[0], rows[1], b, b + count, count);
  }
  sums_t sums = multiply_codes(rows[0], rows[1], weights + c / 2 * count, count);
  for (int r = 0; r < 2; r++) {
    sums.at[r][0] *= factors[c];
    sums.at[r][1] *= factors[c + 1];
  }
  return sums;
}

static void widen(const int8_t* from, int32_t count, int16_t* to) {
  for (int32_t i = 0; i < count; i++) to[i] = from[i];
}

void embbert_embed_rows(const embbert_embed_t* embed, const uint16_t* ids, const uint8_t* segments,
                        int32_t n, int8_t* out) {
  const int32_t r = embed->reduced;
  const int32_t d = embed->hidden;
  const int coded = embed->weight_bits == 4;
  for (int32_t t = 0; t < n; t += 2) {
    int16_t inputs[2][2 * EMBBERT_MAX_REDUCED];  // (2R): token, position
    const int32_t* biases[2];
    const int32_t rows = n - t < 2 ? 1 : 2;
    for (int32_t i = 0; i < 2; i++) {
      const int32_t row = t + (i < rows ? i : 0);  // a row beyond the last repeats it
      _Alignas(4) int8_t unpacked[EMBBERT_MAX_REDUCED];
      widen(embbert_token_row(embed, ids[row], unpacked), r, inputs[i]);
      widen(embed->position + row * r, r, inputs[i] + r);
      biases[i] = embed->bias + (segments != NULL && segments[row] == 2 ? d : 0);
    }
    const int8_t* weight = embed->weight;  // (D, 2R)
    for (int32_t c = 0; c < d; c += 2) {
      const sums_t sums = coded
                              ? multiply_codes(inputs[0], inputs[1], weight, 2 * r)
                              : multiply_bytes(inputs[0], inputs[1], weight, weight + 2 * r, 2 * r);
      weight += EMBBERT_WEIGHT_BYTES(2, 2 * r, embed->weight_bits);
      for (int32_t i = 0; i < rows; i++) {
        for (int32_t k = 0; k < 2; k++) {
          out[(t + i) * d + c + k] =
              (int8_t)embbert_requantize(biases[i][c + k] + sums.at[i][k], embed->shift,
                                         embed->multipliers[c + k], embed->zero);
        }
      }
    }
  }
}

// x (n, D) in place.
static void normalize(const embbert_block_t* block, int8_t* x, int32_t n) {
  for (int32_t t = 0; t < n; t++) {
    uint32_t squares = 0;
    for (int32_t d = 0; d < block->hidden; d++) {
      const int32_t centred = x[d] - block->x_zero;
      squares += (uint32_t)(centred * centred);
    }
    const embbert_factor_t factor = embbert_norm_factor(block, squares);
    for (int32_t d = 0; d < block->hidden; d++) {
      x[d] = (int8_t)embbert_requantize(x[d] - block->x_zero, factor.shift, factor.multiplier, 0);
    }
    x += block->hidden;
  }
}

// xhat (D) in `wide` to q (D), zero point taken off.
static void query(const embbert_block_t* block, const pair_t* pair) {
  const int32_t shift = block->q_shift, multiplier = block->q_multiplier, zero = block->q_zero;
  for (int32_t c = 0; c < block->hidden; c += 2) {
    const sums_t sums =
        multiply_weights(pair->wide, block->wq, block->wq_factors, c, block->hidden);
    for (int r = 0; r < 2; r++) {
      for (int32_t k = 0; k < 2; k++) {
        const int32_t acc = block->bq[c + k] + sums.at[r][k];
        pair->q[r][c + k] = (int16_t)(embbert_requantize(acc, shift, multiplier, zero) - zero);
      }
    }
  }
}

// q (D) against xhat (n, D): scores (n) in 1/256 octaves.
static void score(const embbert_block_t* block, const pair_t* pair, const int8_t* xhat, int32_t n) {
  const int32_t d = block->hidden;
  const int32_t shift = block->score_shift, multiplier = block->score_multiplier;
  for (int32_t j = 0; j < n; j += 2) {
    const int32_t keys = n - j < 2 ? 1 : 2;
    const sums_t sums =
        multiply_bytes(pair->q[0], pair->q[1], xhat, keys == 2 ? xhat + d : xhat, d);
    for (int r = 0; r < 2; r++) {
      for (int32_t k = 0; k < keys; k++) {
        const int32_t scaled =
            embbert_multiply_high(embbert_shift_left(sums.at[r][k], shift), multiplier);
        pair->scores[r][j + k] = (int16_t)embbert_clamp(scaled, -32768, 32767);
      }
    }
    xhat += 2 * d;
  }
}

// Scores (n) to weights 0..32767 in place; returns their sum.
static uint32_t exponentials(int16_t* scores, int32_t n) {
  int32_t most = scores[0];
  for (int32_t j = 1; j < n; j++) most = scores[j] > most ? scores[j] : most;
  uint32_t sum = 0;
  for (int32_t j = 0; j < n; j++) {
    int32_t below = most - scores[j];
    if (below > EMBBERT_SCORE_FLOOR) below = EMBBERT_SCORE_FLOOR;
    const uint32_t doubled = 2u * embbert_exp2_table[below & 255];
    const uint32_t weight = ((doubled >> (below >> 8)) + 1) >> 1;
    scores[j] = (int16_t)weight;
    sum += weight;
  }
  return n > EMBBERT_MOST_WHOLE_WEIGHTS ? embbert_halve_weights(scores, 1, n, 0) : sum;
}

// Two rows of weights (n) . columns 0 and 1 of x (n, stride).
static sums_t average(const int16_t* w0, const int16_t* w1, const int8_t* x, int32_t stride,
                      int32_t n) {
  int32_t s00 = 0, s01 = 0, s10 = 0, s11 = 0;
  for (; n >= 4; n -= 4) {
#pragma GCC unroll 4
    for (int32_t j = 0; j < 4; j++) {
      s00 += w0[j] * x[0];
      s01 += w0[j] * x[1];
      s10 += w1[j] * x[0];
      s11 += w1[j] * x[1];
      x += stride;
    }
    w0 += 4;
    w1 += 4;
  }
  for (; n > 0; n--) {
    s00 += *w0 * x[0];
    s01 += *w0++ * x[1];
    s10 += *w1 * x[0];
    s11 += *w1++ * x[1];
    x += stride;
  }
  return (sums_t){{{s00, s01}, {s10, s11}}};
}

// sum_j weights[j] * xhat[j] / sum(weights): c (D) in 1/256 steps of xhat.
static void context(const pair_t* pair, const embbert_factor_t factors[2], const int8_t* xhat,
                    int32_t n, int32_t hidden) {
  for (int32_t c = 0; c < hidden; c += 2) {
    const sums_t sums = average(pair->scores[0], pair->scores[1], xhat + c, hidden, n);
    for (int r = 0; r < 2; r++) {
      for (int32_t k = 0; k < 2; k++) {
        pair->q[r][c + k] = (int16_t)embbert_multiply_high(
            embbert_shift_left(sums.at[r][k], factors[r].shift), factors[r].multiplier);
      }
    }
  }
}

// Rows t and t + rows - 1 of SiLU(causal depthwise convolution): s (E*D) in `wide`.
static void convolve(const embbert_block_t* block, const pair_t* pair, const int8_t* xhat,
                     int32_t t, int32_t rows) {
  const int32_t d = block->hidden;
  const int32_t last = t + rows - 1;
  // Taps of row t that meet a row, and those of them beside which one of the last row meets the
  // same.
  const int32_t first_taps = block->taps < t + 1 ? block->taps : t + 1;
  const int32_t common = (block->taps < last + 1 ? block->taps : last + 1) - (rows - 1);
  for (int32_t channel = 0; channel < block->expansion * d; channel++) {
    const int8_t* weight = block->conv + channel * block->taps + block->taps - 1;
    const int8_t* const column = xhat + channel / block->expansion;
    int32_t at = last * d;
    int32_t acc0 = block->conv_bias[channel], acc1 = acc0;
    if (rows == 2) {
      acc1 += *weight * column[at];
      at -= d;
    }
    for (int32_t tap = 0; tap < common; tap++) {
      const int32_t x = column[at];
      acc0 += x * weight[0];
      acc1 += x * weight[1 - rows];
      weight--;
      at -= d;
    }
    if (common < first_taps) acc0 += *weight * column[at];
    const int32_t accs[2] = {acc0, acc1};
    for (int32_t r = 0; r < rows; r++) {
      const int32_t y = embbert_requantize(accs[r], block->conv_shift,
                                           block->conv_multipliers[channel], block->y_zero);
      pair->wide[r][channel] = block->silu[y + 128];
    }
  }
}

// c.Wv + s.Wz + bz: rows of out (D).
static void project(const embbert_block_t* block, const pair_t* pair, int32_t rows, int8_t* out) {
  const int32_t d = block->hidden;
  for (int32_t c = 0; c < d; c += 2) {
    const sums_t a = multiply_weights(pair->q, block->wv, block->wv_factors, c, d);
    const sums_t z =
        multiply_weights(pair->wide, block->wz, block->wz_factors, c, block->expansion * d);
    for (int32_t r = 0; r < rows; r++) {
      for (int32_t k = 0; k < 2; k++) {
        int32_t sum = block->out_zero * 256 + 128;
        sum = embbert_multiply_high_add(embbert_shift_left(a.at[r][k], block->a_shift),
                                        block->a_multiplier, sum);
        sum = embbert_multiply_high_add(
            embbert_shift_left(block->bz[c + k] + z.at[r][k], block->z_shift), block->z_multiplier,
            sum);
        out[r * d + c + k] = (int8_t)embbert_saturate8_of_256ths(sum);
      }
    }
  }
}

embbert_status_t embbert_block_rows(const embbert_block_t* block, int8_t* x, int32_t n,
                                    int32_t rows, int8_t* out, void* scratch, size_t scratch_size,
                                    const embbert_hook_t* hook) {
  (void)scratch_size;
  const int32_t d = block->hidden;
  EMBBERT_PROFILE_START(mark);
  normalize(block, x, n);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_NORM);
  for (int32_t t = 0; t < rows; t += 2) {
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    const int32_t count = rows - t < 2 ? 1 : 2;
    const pair_t pair = lay_out(block, n, count, scratch);
    for (int32_t r = 0; r < count; r++) widen(x + (t + r) * d, d, pair.wide[r]);
    query(block, &pair);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_QUERY);
    score(block, &pair, x, n);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SCORES);
    embbert_factor_t factors[2];
    for (int32_t r = 0; r < count; r++) {
      factors[r] = embbert_mean_factor(exponentials(pair.scores[r], n));
    }
    if (count == 1) factors[1] = factors[0];
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SOFTMAX);
    context(&pair, factors, x, n, d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONTEXT);
    convolve(block, &pair, x, t, count);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONV);
    project(block, &pair, count, out + t * d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_PROJECT);
  }
  return EMBBERT_OK;
}

#endif  // EMBBERT_USE_PORTABLE

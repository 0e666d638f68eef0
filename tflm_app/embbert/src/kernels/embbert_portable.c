// Portable implementation: one query row at a time, plain loops. The other two give its bytes.

#include "embbert_internal.h"

#ifdef EMBBERT_USE_PORTABLE

#include <string.h>

const char embbert_implementation[] = "portable";

// Scratch of one query row.
typedef struct {
  int32_t* acc;     // (D)
  int16_t* q;       // (D), zero point taken off; later c (D) in 1/256 steps of xhat
  int16_t* scores;  // (n) in 1/256 octaves, then softmax weights up to 32767
  int8_t* s;        // (E*D)
} scratch_t;

static scratch_t lay_out(void* scratch, int32_t hidden, int32_t n) {
  const size_t d = (size_t)hidden;
  uint8_t* const base = (uint8_t*)scratch;
  return (scratch_t){(int32_t*)(void*)base, (int16_t*)(void*)(base + 4 * d),
                     (int16_t*)(void*)(base + 6 * d),
                     (int8_t*)(base + 6 * d + EMBBERT_SCRATCH_SCORES((size_t)n))};
}

static int32_t dot_int8(const int8_t* a, const int8_t* b, int32_t count) {
  int32_t acc = 0;
  for (int32_t i = 0; i < count; i++) acc += a[i] * b[i];
  return acc;
}

static int32_t dot_int16(const int16_t* a, const int8_t* b, int32_t count) {
  int32_t acc = 0;
  for (int32_t i = 0; i < count; i++) acc += a[i] * b[i];
  return acc;
}

// As dot_int16, of a row of codes.
static int32_t dot_codes_int16(const int16_t* a, const int8_t* codes, int32_t count) {
  int32_t acc = 0;
  for (int32_t i = 0; i < count; i += 8) {
    for (int32_t k = 0; k < 4; k++) {
      acc += a[i + k] * embbert_low_code(*codes) + a[i + k + 4] * embbert_high_code(*codes);
      codes++;
    }
  }
  return acc;
}

// a (count) . row `index` of a matrix of int8, or with factors of codes.
static int32_t row_int8(const int8_t* a, const int8_t* weights, const int8_t* factors,
                        int32_t index, int32_t count) {
  if (factors == NULL) return dot_int8(a, weights + index * count, count);
  return factors[index] * embbert_dot_codes(a, weights + index * (count / 2), count);
}

static int32_t row_int16(const int16_t* a, const int8_t* weights, const int8_t* factors,
                         int32_t index, int32_t count) {
  if (factors == NULL) return dot_int16(a, weights + index * count, count);
  return factors[index] * dot_codes_int16(a, weights + index * (count / 2), count);
}

void embbert_embed_rows(const embbert_embed_t* embed, const uint16_t* ids, const uint8_t* segments,
                        int32_t n, int8_t* out) {
  const int32_t r = embed->reduced;
  for (int32_t t = 0; t < n; t++) {
    _Alignas(4) int8_t row[EMBBERT_MAX_REDUCED];
    int8_t inputs[2 * EMBBERT_MAX_REDUCED];  // (2R): token, position
    memcpy(inputs, embbert_token_row(embed, ids[t], row), (size_t)r);
    memcpy(inputs + r, embed->position + t * r, (size_t)r);
    const int32_t* bias = embed->bias + (segments != NULL && segments[t] == 2 ? embed->hidden : 0);
    const int8_t* weight = embed->weight;  // (D, 2R)
    for (int32_t d = 0; d < embed->hidden; d++) {
      const int32_t acc =
          bias[d] + (embed->weight_bits == 4 ? embbert_dot_codes(inputs, weight, 2 * r)
                                             : dot_int8(inputs, weight, 2 * r));
      *out++ = (int8_t)embbert_requantize(acc, embed->shift, embed->multipliers[d], embed->zero);
      weight += EMBBERT_WEIGHT_BYTES(2 * r, embed->weight_bits);
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

// xhat (D) to q (D), zero point taken off.
static void query(const embbert_block_t* block, const int8_t* xhat, int16_t* q) {
  for (int32_t d = 0; d < block->hidden; d++) {
    const int32_t acc =
        block->bq[d] + row_int8(xhat, block->wq, block->wq_factors, d, block->hidden);
    q[d] = (int16_t)(embbert_requantize(acc, block->q_shift, block->q_multiplier, block->q_zero) -
                     block->q_zero);
  }
}

// q (D) against xhat (n, D): scores (n) in 1/256 octaves.
static void score(const embbert_block_t* block, const int16_t* q, const int8_t* xhat, int32_t n,
                  int16_t* scores) {
  for (int32_t j = 0; j < n; j++) {
    const int32_t acc = dot_int16(q, xhat, block->hidden);
    const int32_t scaled =
        embbert_multiply_high(embbert_shift_left(acc, block->score_shift), block->score_multiplier);
    scores[j] = (int16_t)embbert_clamp(scaled, -32768, 32767);
    xhat += block->hidden;
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
  return sum;
}

// sum_j weights[j] * xhat[j] / sum(weights): c (D) in 1/256 steps of xhat.
static void context(const int16_t* weights, uint32_t sum, const int8_t* xhat, int32_t n,
                    int32_t hidden, int32_t* acc, int16_t* c) {
  memset(acc, 0, (size_t)hidden * sizeof(*acc));
  for (int32_t j = 0; j < n; j++) {
    const int32_t weight = weights[j];
    if (weight == 0) {  // most of a long sentence: far below the best match
      xhat += hidden;
      continue;
    }
    for (int32_t d = 0; d < hidden; d++) acc[d] += weight * xhat[d];
    xhat += hidden;
  }
  const embbert_factor_t factor = embbert_mean_factor(sum);
  for (int32_t d = 0; d < hidden; d++) {
    c[d] =
        (int16_t)embbert_multiply_high(embbert_shift_left(acc[d], factor.shift), factor.multiplier);
  }
}

// Row t of SiLU(causal depthwise convolution): s (E*D).
static void convolve(const embbert_block_t* block, const int8_t* xhat, int32_t t, int8_t* s) {
  const int32_t taps = block->taps < t + 1 ? block->taps : t + 1;  // those that meet a row
  for (int32_t d = 0; d < block->hidden; d++) {
    for (int32_t e = 0; e < block->expansion; e++) {
      const int32_t channel = d * block->expansion + e;
      const int8_t* weight = block->conv + channel * block->taps + block->taps - 1;
      const int8_t* row = xhat + t * block->hidden + d;
      int32_t acc = block->conv_bias[channel];
      for (int32_t tap = 0; tap < taps; tap++) {
        acc += weight[-tap] * row[-tap * block->hidden];
      }
      const int32_t y = embbert_requantize(acc, block->conv_shift, block->conv_multipliers[channel],
                                           block->y_zero);
      s[channel] = block->silu[y + 128];
    }
  }
}

// c.Wv + s.Wz + bz: out (D).
static void project(const embbert_block_t* block, const int16_t* c, const int8_t* s, int8_t* out) {
  const int32_t inner = block->expansion * block->hidden;
  for (int32_t d = 0; d < block->hidden; d++) {
    const int32_t a = row_int16(c, block->wv, block->wv_factors, d, block->hidden);
    const int32_t z = block->bz[d] + row_int8(s, block->wz, block->wz_factors, d, inner);
    int32_t sum = block->out_zero * 256 + 128;
    sum =
        embbert_multiply_high_add(embbert_shift_left(a, block->a_shift), block->a_multiplier, sum);
    sum =
        embbert_multiply_high_add(embbert_shift_left(z, block->z_shift), block->z_multiplier, sum);
    out[d] = (int8_t)embbert_saturate8_of_256ths(sum);
  }
}

embbert_status_t embbert_block_rows(const embbert_block_t* block, int8_t* x, int32_t n,
                                    int32_t rows, int8_t* out, void* scratch, size_t scratch_size,
                                    const embbert_hook_t* hook) {
  (void)scratch_size;
  const scratch_t area = lay_out(scratch, block->hidden, n);
  EMBBERT_PROFILE_START(mark);
  normalize(block, x, n);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_NORM);
  for (int32_t t = 0; t < rows; t++) {
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    query(block, x + t * block->hidden, area.q);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_QUERY);
    score(block, area.q, x, n, area.scores);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SCORES);
    const uint32_t sum = exponentials(area.scores, n);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SOFTMAX);
    context(area.scores, sum, x, n, block->hidden, area.acc, area.q);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONTEXT);
    convolve(block, x, t, area.s);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONV);
    project(block, area.q, area.s, out + t * block->hidden);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_PROJECT);
  }
  return EMBBERT_OK;
}

#endif  // EMBBERT_USE_PORTABLE

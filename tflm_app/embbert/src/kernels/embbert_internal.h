// What the implementations of the kernels share. Not for applications.
#ifndef EMBBERT_INTERNAL_H_
#define EMBBERT_INTERNAL_H_

#include "embbert_kernels.h"

#define EMBBERT_EXP2_ENTRIES 256
#define EMBBERT_RSQRT_ENTRIES 96
extern const uint16_t embbert_exp2_table[EMBBERT_EXP2_ENTRIES];
extern const uint16_t embbert_rsqrt_table[EMBBERT_RSQRT_ENTRIES];

// A score difference at which exp2 has long become 0, and which 13 bits hold: 32 octaves less one
// step.
#define EMBBERT_SCORE_FLOOR 8191

#ifdef EMBBERT_PROFILE
#define EMBBERT_PROFILE_START(mark) uint32_t mark = embbert_clock()
#define EMBBERT_PROFILE_STOP(mark, step)                         \
  do {                                                           \
    const uint32_t now_ = embbert_clock();                       \
    embbert_profile[step] += embbert_clock_units(now_ - (mark)); \
    (mark) = embbert_clock();                                    \
  } while (0)
// What has passed since is another's.
#define EMBBERT_PROFILE_RESTART(mark) (mark) = embbert_clock()
#else
#define EMBBERT_PROFILE_START(mark) \
  do {                              \
  } while (0)
#define EMBBERT_PROFILE_STOP(mark, step) \
  do {                                   \
  } while (0)
#define EMBBERT_PROFILE_RESTART(mark) \
  do {                                \
  } while (0)
#endif

// Row `id` of the token table, (R) int8: the table's own, or `row` (EMBBERT_MAX_REDUCED, 4-byte
// aligned) filled from a table of fewer bits.
const int8_t* embbert_token_row(const embbert_embed_t* embed, int32_t id, int8_t* row);

// The implementation's part: arguments have been checked. More scratch than what
// embbert_block_scratch_size asks for may make it faster.
void embbert_embed_rows(const embbert_embed_t* embed, const uint16_t* ids, const uint8_t* segments,
                        int32_t n, int8_t* out);
embbert_status_t embbert_block_rows(const embbert_block_t* block, int8_t* x, int32_t n,
                                    int32_t rows, int8_t* out, void* scratch, size_t scratch_size,
                                    const embbert_hook_t* hook);

// Whether the caller wants the computation to end.
static inline int embbert_hook_stops(const embbert_hook_t* hook) {
  return hook != NULL && hook->call(hook->context) != 0;
}

// The codes of a byte, 16 * second + first, each -7..7.
static inline int32_t embbert_first_code(int32_t byte) {
  return (int32_t)((uint32_t)byte << 28) >> 28;
}

static inline int32_t embbert_second_code(int32_t byte) { return (byte + 8) >> 4; }

static inline int32_t embbert_larger(int32_t a, int32_t b) { return a > b ? a : b; }

// (a * b + 2^31) >> 32: the only rounding of the kernels, one instruction on every Arm core they
// are written for (SMMULR, VRMULH).
static inline int32_t embbert_multiply_high(int32_t a, int32_t b) {
#if defined(__ARM_FEATURE_DSP) && !defined(EMBBERT_FORCE_PORTABLE)
  // arm_acle.h has no intrinsic for it.
  int32_t high;
  __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(a), "r"(b));
  return high;
#else
  return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

// addend + embbert_multiply_high(a, b).
static inline int32_t embbert_multiply_high_add(int32_t a, int32_t b, int32_t addend) {
#if defined(__ARM_FEATURE_DSP) && !defined(EMBBERT_FORCE_PORTABLE)
  int32_t high;
  __asm__("smmlar %0, %1, %2, %3" : "=r"(high) : "r"(a), "r"(b), "r"(addend));
  return high;
#else
  return addend + embbert_multiply_high(a, b);
#endif
}

static inline int32_t embbert_shift_left(int32_t value, int32_t shift) {
  return (int32_t)((uint32_t)value << shift);
}

static inline int32_t embbert_clamp(int32_t value, int32_t low, int32_t high) {
  return value < low ? low : (value > high ? high : value);
}

// The result is an int32_t: narrowing it costs an instruction wherever it is used as an index.
static inline int32_t embbert_saturate8(int32_t value) {
#if defined(__ARM_FEATURE_SAT) && !defined(EMBBERT_FORCE_PORTABLE)
  int32_t low;
  __asm__("ssat %0, #8, %1" : "=r"(low) : "r"(value) : "cc");  // "cc": the sticky Q flag
  return low;
#else
  return embbert_clamp(value, -128, 127);
#endif
}

// value / 256, rounded down, to int8.
static inline int32_t embbert_saturate8_of_256ths(int32_t value) {
#if defined(__ARM_FEATURE_SAT) && !defined(EMBBERT_FORCE_PORTABLE)
  int32_t low;
  __asm__("ssat %0, #8, %1, asr #8" : "=r"(low) : "r"(value) : "cc");
  return low;
#else
  return embbert_clamp(value >> 8, -128, 127);
#endif
}

// Accumulator to int8.
static inline int32_t embbert_requantize(int32_t acc, int32_t shift, int32_t multiplier,
                                         int32_t zero) {
  return embbert_saturate8(
      embbert_multiply_high_add(embbert_shift_left(acc, shift), multiplier, zero));
}

static inline int32_t embbert_leading_zeros(uint32_t value) { return __builtin_clz(value); }

// A factor as embbert_multiply_high takes it: value * factor =
// embbert_multiply_high(value << shift, multiplier).
typedef struct {
  int32_t multiplier;
  int32_t shift;
} embbert_factor_t;

// RMSNorm: what (x - zero) of a row is multiplied by, given the row's sum of (x - zero)^2.
embbert_factor_t embbert_norm_factor(const embbert_block_t* block, uint32_t sum_of_squares);

// Softmax: beyond so many keys the weights are halved, or sums of weight * xhat would overflow.
#define EMBBERT_MOST_WHOLE_WEIGHTS 512

// Halves weights 0..32767, `length` of them in each of `pieces` pieces that lie `stride` apart, and
// returns their sum.
uint32_t embbert_halve_weights(int16_t* weights, int32_t pieces, int32_t length, int32_t stride);

// Softmax: what sum(w * xhat) is multiplied by for 256 times the mean, given sum(w) in 2^14..2^24.
embbert_factor_t embbert_mean_factor(uint32_t sum_of_weights);

#endif  // EMBBERT_INTERNAL_H_

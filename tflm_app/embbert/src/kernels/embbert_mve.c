// Armv8.1-M MVE implementation (Cortex-M55, Cortex-M85).
//
// Everything is a dot product: VMLADAVA multiplies 16 pairs of int8, or 8 pairs of int16, and adds
// the products up in a general register, one with an even number. A tile is four rows by two
// columns: 6 loads for 8 dot products, which fill those registers. The rows lie in scratch,
// interleaved in pieces of 16 bytes, so that one pointer serves all four; columns stay where they
// are. What follows a dot product works on vectors of the four rows' results.

#include "embbert_internal.h"

#ifdef EMBBERT_USE_MVE

#include <arm_mve.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

const char embbert_implementation[] = "mve";

enum {
  kRows = 4,     // rows and
  kColumns = 4,  // columns of results at a time, in two tiles
  kPiece = 16,   // bytes of a row at a time
  kUnroll = 4,   // steps of a dot product's loop
  kOutputs = 8,  // of the convolution at a time
  kTaps = 16,    // the convolution's taps are padded to a multiple of this
  kMaxInputs = 2 * EMBBERT_MAX_REDUCED,
};

// Results of four rows (a vector) and two columns.
typedef struct {
  int32x4_t column0, column1;
} tile_t;

// A group of query rows on its way through a layer, with its scratch. Rows beyond the last are
// computed and not used. Layouts with a 4 have the rows' pieces of 16 bytes in turn.
typedef struct {
  int32_t rows;      // 1..kRows
  int8_t* x;         // (D/16, 4, 16) the rows of xhat; then, in the same place,
  int16_t* weights;  // (padded_n/8, 4, 8) scores, then softmax weights; then,
  int8_t* s;         //   in the same place, (E*D/16, 4, 16)
  int8_t* q;         // (D/16, 4, 16); then, in the same place,
  int16_t* c;        // (D/8, 4, 8)
  int32_t* sums;     // (n) what the scores of each key begin with
  int8_t* columns;   // the convolution's taps and window of one channel
  int32_t padded_n;  // n, rounded up to a multiple of 8
} group_t;

// How often a dot product of so many steps, one at least, runs its loop behind the first step, and
// how many of the loop's kUnroll steps it leaves out the first time.
typedef struct {
  int32_t loops;
  int32_t skipped;
} steps_t;

static inline steps_t steps_of(int32_t steps) {
  const int32_t loops = (steps - 1 + kUnroll - 1) / kUnroll;
  return (steps_t){loops, loops * kUnroll - (steps - 1) + (loops == 0 ? kUnroll : 0)};
}

// Four rows' next pieces, in a0 and a1 by turns, meet two columns, for r0, r2, ... lr. `mla` adds
// to them or, the first time, starts them. `load` fetches the second column.
#define ROWS(mla, b0, load, b1, a0, a1)                                                      \
  "vldrb.8 " a0 ", [%[rows]], #16\n" mla " r0, " a0 ", " b0 "\n" load mla " r2, " a0 ", " b1 \
  "\n"                                                                                       \
  "vldrb.8 " a1 ", [%[rows]], #16\n" mla " r4, " a1 ", " b0 "\n" mla " r6, " a1 ", " b1      \
  "\n"                                                                                       \
  "vldrb.8 " a0 ", [%[rows]], #16\n" mla " r8, " a0 ", " b0 "\n" mla " r10, " a0 ", " b1     \
  "\n"                                                                                       \
  "vldrb.8 " a1 ", [%[rows]], #16\n" mla " r12, " a1 ", " b0 "\n" mla " lr, " a1 ", " b1 "\n"

#define STEP(load0, load1, mla) load0 ROWS(mla, "%q[b0]", load1, "%q[b1]", "%q[a0]", "%q[a1]")

// Eight results to vectors.
#define RESULTS                          \
  "vmov %q[b0][2], %q[b0][0], r0, r8\n"  \
  "vmov %q[b1][2], %q[b1][0], r2, r10\n" \
  "vmov %q[b0][3], %q[b0][1], r4, r12\n" \
  "vmov %q[b1][3], %q[b1][1], r6, lr\n"

// A first step, then `loops` times kUnroll others less `skipped` (all: no loop). The table behind
// TBB holds half the distances to the loop's steps and to its end.
#define DOT(first, step)                                                      \
  first                                                                       \
      "tbb [pc, %[skipped]]\n"                                                \
      "0: .byte (1f - 0b) / 2, (2f - 0b) / 2, (3f - 0b) / 2, (4f - 0b) / 2\n" \
      ".byte (5f - 0b) / 2, 0\n"                                              \
      "1:\n" step "2:\n" step "3:\n" step "4:\n" step                         \
      "subs %[loops], #1\n"                                                   \
      "bne 1b\n"                                                              \
      "5:\n" RESULTS

#define INT8_STEP(mla) \
  STEP("vldrb.8 %q[b0], [%[at0]], #16\n", "vldrb.8 %q[b1], [%[at1]], #16\n", mla ".s8")
#define INT16_STEP(mla) \
  STEP("vldrb.s16 %q[b0], [%[at0]], #8\n", "vldrb.s16 %q[b1], [%[at1]], #8\n", mla ".s16")

// Codes of two columns, a byte for both: itself, which is 16 times the second column's code plus
// the first's, and the second's alone, which is a sixteenth of it, rounded.
#define CODES_STEP(mla) \
  STEP("vldrb.8 %q[b0], [%[at]], #16\n", "vrshr.s8 %q[b1], %q[b0], #4\n", mla ".s8")
#define CODES_INT16_STEP(mla) \
  STEP("vldrb.s16 %q[b0], [%[at]], #8\n", "vrshr.s16 %q[b1], %q[b0], #4\n", mla ".s16")

#define TAIL_STEP                           \
  STEP(                                     \
      "vctp.16 r2\n"                        \
      "vpstt\n"                             \
      "vldrbt.s16 %q[b0], [r0, %q[even]]\n" \
      "vldrbt.s16 %q[b1], [r0, %q[odd]]\n", \
      "", "vmladav.s16")
#define KEYS_STEP                              \
  STEP("vldrb.s16 %q[b0], [%[x], %q[even]]\n", \
       "vldrb.s16 %q[b1], [%[x], %q[odd]]\n"   \
       "add %[x], %[piece]\n",                 \
       "vmladava.s16")

// Four int8 rows in scratch against the int8 rows at `at0` and `at1`, which move behind them, 16
// values a step.
INLINE tile_t dot_int8(const int8_t* rows, const int8_t** at0, const int8_t** at1, steps_t steps) {
  register const int8_t* rows_in __asm__("r1") = rows;
  register const int8_t* at0_in __asm__("r3") = *at0;
  register const int8_t* at1_in __asm__("r5") = *at1;
  register int32_t loops __asm__("r9") = steps.loops;
  register int32_t skipped __asm__("r11") = steps.skipped;
  tile_t to;
  int8x16_t a0, a1;
  __asm__ volatile(
      DOT(INT8_STEP("vmladav"), INT8_STEP("vmladava"))
      : [b0] "=&w"(to.column0), [b1] "=&w"(to.column1), [a0] "=&w"(a0), [a1] "=&w"(a1),
        [rows] "+r"(rows_in), [at0] "+r"(at0_in), [at1] "+r"(at1_in), [loops] "+r"(loops)
      : [skipped] "r"(skipped)
      : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory");
  *at0 = at0_in;
  *at1 = at1_in;
  return to;
}

// Four int16 rows in scratch against the int8 rows at `at0` and `at1`, which move behind them, 8
// values a step.
INLINE tile_t dot_int16(const int16_t* rows, const int8_t** at0, const int8_t** at1,
                        steps_t steps) {
  register const int16_t* rows_in __asm__("r1") = rows;
  register const int8_t* at0_in __asm__("r3") = *at0;
  register const int8_t* at1_in __asm__("r5") = *at1;
  register int32_t loops __asm__("r9") = steps.loops;
  register int32_t skipped __asm__("r11") = steps.skipped;
  tile_t to;
  int16x8_t a0, a1;
  __asm__ volatile(
      DOT(INT16_STEP("vmladav"), INT16_STEP("vmladava"))
      : [b0] "=&w"(to.column0), [b1] "=&w"(to.column1), [a0] "=&w"(a0), [a1] "=&w"(a1),
        [rows] "+r"(rows_in), [at0] "+r"(at0_in), [at1] "+r"(at1_in), [loops] "+r"(loops)
      : [skipped] "r"(skipped)
      : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory");
  *at0 = at0_in;
  *at1 = at1_in;
  return to;
}

// A product of rows by two rows of codes from that by their bytes and that by the second.
static inline tile_t apart(tile_t sums) {
  sums.column0 = vsubq_s32(sums.column0, vshlq_n_s32(sums.column1, 4));
  return sums;
}

// Four int8 rows in scratch against the two rows of codes at `at`, which moves behind them, 16
// values of each a step.
INLINE tile_t dot_codes(const int8_t* rows, const int8_t** at, steps_t steps) {
  register const int8_t* rows_in __asm__("r1") = rows;
  register const int8_t* at_in __asm__("r3") = *at;
  register int32_t loops __asm__("r9") = steps.loops;
  register int32_t skipped __asm__("r11") = steps.skipped;
  tile_t to;
  int8x16_t a0, a1;
  __asm__ volatile(DOT(CODES_STEP("vmladav"), CODES_STEP("vmladava"))
                   : [b0] "=&w"(to.column0), [b1] "=&w"(to.column1), [a0] "=&w"(a0), [a1] "=&w"(a1),
                     [rows] "+r"(rows_in), [at] "+r"(at_in), [loops] "+r"(loops)
                   : [skipped] "r"(skipped)
                   : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory");
  *at = at_in;
  return apart(to);
}

// The same of int16 rows, 8 values a step.
INLINE tile_t dot_codes_int16(const int16_t* rows, const int8_t** at, steps_t steps) {
  register const int16_t* rows_in __asm__("r1") = rows;
  register const int8_t* at_in __asm__("r3") = *at;
  register int32_t loops __asm__("r9") = steps.loops;
  register int32_t skipped __asm__("r11") = steps.skipped;
  tile_t to;
  int16x8_t a0, a1;
  __asm__ volatile(DOT(CODES_INT16_STEP("vmladav"), CODES_INT16_STEP("vmladava"))
                   : [b0] "=&w"(to.column0), [b1] "=&w"(to.column1), [a0] "=&w"(a0), [a1] "=&w"(a1),
                     [rows] "+r"(rows_in), [at] "+r"(at_in), [loops] "+r"(loops)
                   : [skipped] "r"(skipped)
                   : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory");
  *at = at_in;
  return apart(to);
}

// Four int16 rows in scratch against two int8 columns of a matrix, 8 of its rows a step: `even` and
// `odd` are where the columns' values in 8 rows lie, `piece` what 8 rows take.
// The first step is the last rows', `count` of them at `tail`; the others begin at `x`.
INLINE tile_t dot_columns(const int16_t* rows, const int8_t* tail, int32_t count, const int8_t* x,
                          uint16x8_t even, uint16x8_t odd, int32_t piece, steps_t steps) {
  // Until the first results come, the registers of accumulators are free.
  register const int8_t* tail_in_r0 __asm__("r0") = tail;
  register int32_t count_in_r2 __asm__("r2") = count;
  register const int16_t* rows_in __asm__("r1") = rows;
  register const int8_t* x_in __asm__("r3") = x;
  register int32_t piece_in __asm__("r5") = piece;
  register int32_t loops __asm__("r9") = steps.loops;
  register int32_t skipped __asm__("r11") = steps.skipped;
  tile_t to;
  int16x8_t a0, a1;
  __asm__ volatile(DOT(TAIL_STEP, KEYS_STEP)
                   : [b0] "=&w"(to.column0), [b1] "=&w"(to.column1), [a0] "=&w"(a0), [a1] "=&w"(a1),
                     [rows] "+r"(rows_in), [x] "+r"(x_in), [loops] "+r"(loops), "+r"(tail_in_r0),
                     "+r"(count_in_r2)
                   : [skipped] "r"(skipped), [piece] "r"(piece_in), [even] "w"(even), [odd] "w"(odd)
                   : "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory");
  return to;
}

static inline uint16x8_t multiples_of(int32_t stride) {
  return vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)stride);
}

// Where 32 bits of each of four rows go that lie `stride` bytes apart.
static inline uint32x4_t rows_apart(int32_t stride) {
  return vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)stride);
}

// mulhi(acc << shift, multiplier) of vectors.
static inline int32x4_t scale(int32x4_t acc, int32_t shift, int32x4_t multiplier) {
  return vrmulhq_s32(vshlq_r_s32(acc, shift), multiplier);
}

// A tile as pairs of int16, saturated. The intrinsics want a value for the half of the register
// that the first of the two instructions leaves alone.
static inline int16x8_t pairs_of(int32x4_t column0, int32x4_t column1) {
  int16x8_t pairs;
  __asm__(
      "vqmovnb.s32 %q0, %q1\n"
      "vqmovnt.s32 %q0, %q2\n"
      : "=&w"(pairs)
      : "w"(column0), "w"(column1));
  return pairs;
}

// A square plus zero as int8, saturated: four columns of each row together.
static inline int32x4_t bytes_of(int16x8_t even, int16x8_t odd, int32_t zero) {
  even = vqaddq_n_s16(even, (int16_t)zero);
  odd = vqaddq_n_s16(odd, (int16_t)zero);
  __asm__(
      "vqmovnb.s16 %q0, %q0\n"
      "vqmovnt.s16 %q0, %q1\n"
      : "+w"(even)
      : "w"(odd));
  return vreinterpretq_s32_s16(even);
}

// A tile of 256ths as pairs of int16, rounded half up and saturated.
static inline int16x8_t rounded_pairs_of(int32x4_t column0, int32x4_t column1) {
  int16x8_t pairs;
  __asm__(
      "vqrshrnb.s32 %q0, %q1, #8\n"
      "vqrshrnt.s32 %q0, %q2, #8\n"
      : "=&w"(pairs)
      : "w"(column0), "w"(column1));
  return pairs;
}

// Pairs plus zero as uint8, saturated, each in an uint16.
static inline uint16x8_t uint8_of(int16x8_t pairs, int32_t zero) {
  int16x8_t sum = vqaddq_n_s16(pairs, (int16_t)zero);
  __asm__(
      "vqmovunb.s16 %q0, %q0\n"
      "vmovlb.u8 %q0, %q0\n"
      : "+w"(sum));
  return vreinterpretq_u16_s16(sum);
}

// Four columns of each row, rows `offsets` apart, of which those `stored` are there.
static inline void store(int8_t* to, uint32x4_t offsets, int16x8_t even, int16x8_t odd,
                         int32_t zero, mve_pred16_t stored) {
  vstrwq_scatter_offset_p_s32((int32_t*)(void*)to, offsets, bytes_of(even, odd, zero), stored);
}

// Where row 0's element `i` of x or s lies in pieces by turns.
static inline int32_t in_piece(int32_t i) { return i / kPiece * kRows * kPiece + i % kPiece; }

// Rows to scratch, in pieces by turns. Rows beyond the last repeat it.
static void interleave(const int8_t* from, int32_t rows, int32_t size, int8_t* to) {
  for (int32_t row = 0; row < kRows; row++) {
    int8_t* piece = to + row * kPiece;
    for (int32_t i = 0; i < size; i += kPiece) {
      vst1q_s8(piece, vld1q_s8(from + i));
      piece += kRows * kPiece;
    }
    if (row + 1 < rows) from += size;
  }
}

// The products of rows by two rows of weights from those by their codes.
static inline tile_t times(tile_t sums, int32_t factor0, int32_t factor1) {
  return (tile_t){vmulq_n_s32(sums.column0, factor0), vmulq_n_s32(sums.column1, factor1)};
}

// Adds each row's bias, that of the first segment or that of the second, `d` words on.
static inline int32x4_t add_second(int32x4_t acc, int32x4_t is_second, const int32_t* bias,
                                   int32_t d) {
  return vmlaq_n_s32(vaddq_n_s32(acc, bias[0]), is_second, bias[d] - bias[0]);
}

// Rows t.. of token beside position, `rows` of them, to scratch as int16 (2R/8, 4, 8).
static void gather_inputs(const embbert_embed_t* embed, const uint16_t* ids, int32_t t,
                          int32_t rows, int16_t* to) {
  const int32_t r = embed->reduced;
  for (int32_t i = 0; i < kRows; i++) {
    const int32_t row = t + (i < rows ? i : rows - 1);  // rows beyond the last repeat it
    _Alignas(4) int8_t token[EMBBERT_MAX_REDUCED];
    _Alignas(4) int8_t bytes[kMaxInputs];
    memcpy(bytes, embbert_token_row(embed, ids[row], token), (size_t)r);
    memcpy(bytes + r, embed->position + row * r, (size_t)r);
    for (int32_t k = 0; k < 2 * r; k += 8) {
      vst1q_s16(to + (k / 8 * kRows + i) * 8, vldrbq_s16(bytes + k));
    }
  }
}

void embbert_embed_rows(const embbert_embed_t* embed, const uint16_t* ids, const uint8_t* segments,
                        int32_t n, int8_t* out) {
  const int32_t d = embed->hidden;
  const int32_t inputs = 2 * embed->reduced;
  const int coded = embed->weight_bits == 4;
  const int32_t shift = embed->shift, zero = embed->zero;
  const steps_t steps = steps_of(inputs / 8);
  const uint32x4_t offsets = rows_apart(d);
  for (int32_t t = 0; t < n; t += kRows) {
    const int32_t rows = n - t < kRows ? n - t : kRows;
    int16_t input[kRows * kMaxInputs];
    gather_inputs(embed, ids, t, rows, input);
    int32_t second[kRows] = {0};  // whether a row is of the second segment
    for (int32_t i = 0; i < rows; i++) second[i] = segments != NULL && segments[t + i] == 2;
    const int32x4_t is_second = vld1q_s32(second);
    const mve_pred16_t stored = vctp32q((uint32_t)rows);
    const int32_t* multipliers = embed->multipliers;
    const int32_t* bias = embed->bias;  // (2, D)
    const int8_t* at = embed->weight;   // (D, 2R)
    int8_t* to = out + t * d;
    for (int32_t c = 0; c < d; c += kColumns) {
      tile_t tiles[2];  // columns 0 and 1, 2 and 3
      for (int32_t i = 0; i < 2; i++) {
        if (coded) {
          tiles[i] = dot_codes_int16(input, &at, steps);
        } else {
          const int8_t* next = at + inputs;
          tiles[i] = dot_int16(input, &at, &next, steps);
          at = next;
        }
        tiles[i].column0 = scale(add_second(tiles[i].column0, is_second, bias, d), shift,
                                 vdupq_n_s32(multipliers[0]));
        tiles[i].column1 = scale(add_second(tiles[i].column1, is_second, bias + 1, d), shift,
                                 vdupq_n_s32(multipliers[1]));
        bias += 2;
        multipliers += 2;
      }
      store(to, offsets, pairs_of(tiles[0].column0, tiles[1].column0),
            pairs_of(tiles[0].column1, tiles[1].column1), zero, stored);
      to += kColumns;
    }
  }
}

// x (n, D) in place; sums (n) of each row of the result, times -(zero point of the query).
static void normalize(const embbert_block_t* block, int8_t* x, int32_t n, int32_t* sums) {
  const int32_t d = block->hidden;
  const int16_t zero = (int16_t)block->x_zero;
  for (int32_t t = 0; t < n; t++) {
    // sum((x - zero)^2), multiplied out.
    int32_t squares = d * zero * zero, sum = 0;
    for (int32_t i = 0; i < d; i += 16) {
      const int8x16_t values = vld1q_s8(x + i);
      squares = vmladavaq_s8(squares, values, values);
      sum = vaddvaq_s8(sum, values);
    }
    squares -= 2 * zero * sum;
    const embbert_factor_t factor = embbert_norm_factor(block, (uint32_t)squares);
    const int32x4_t multiplier = vdupq_n_s32(factor.multiplier);
    sum = 0;
    for (int32_t i = 0; i < d; i += 8) {
      const int16x8_t centred = vsubq_n_s16(vldrbq_s16(x), zero);
      const int32x4_t even = scale(vmovlbq_s16(centred), factor.shift, multiplier);
      const int32x4_t odd = scale(vmovltq_s16(centred), factor.shift, multiplier);
      int16x8_t xhat = pairs_of(even, odd);
      xhat = vmaxq_s16(vminq_s16(xhat, vdupq_n_s16(127)), vdupq_n_s16(-128));
      vstrbq_s16(x, xhat);
      sum = vaddvaq_s16(sum, xhat);
      x += 8;
    }
    *sums++ = -block->q_zero * sum;
  }
}

// Columns `first` and `second` of q, before its zero point: with their biases and, of codes, their
// factors (NULL else).
INLINE tile_t query_tile(const embbert_block_t* block, tile_t acc, const int32_t* bias,
                         const int8_t* factors, int32_t first, int32_t second,
                         int32x4_t multiplier) {
  if (factors != NULL) acc = times(acc, factors[first], factors[second]);
  acc.column0 = scale(vaddq_n_s32(acc.column0, bias[first]), block->q_shift, multiplier);
  acc.column1 = scale(vaddq_n_s32(acc.column1, bias[second]), block->q_shift, multiplier);
  return acc;
}

// group->x to q. `coded` is group->coded.
INLINE void query_of(const embbert_block_t* block, const group_t* group, int coded) {
  const int32_t d = block->hidden;
  const int32_t zero = block->q_zero;
  const steps_t steps = steps_of(d / 16);
  const int8_t* at = block->wq;  // (D, D)
  const int8_t* factors = block->wq_factors;
  const int32_t* bq = block->bq;
  const uint32x4_t offsets = rows_apart(kPiece);
  const int32x4_t multiplier = vdupq_n_s32(block->q_multiplier);
  const int8_t* const x = group->x;
  int8_t* piece = group->q;
  for (int32_t i = 0; i < d; i += kPiece) {
    for (int32_t c = 0; c < kPiece; c += kColumns) {
      int16x8_t even, odd;
      if (coded) {
        const tile_t low =
            query_tile(block, dot_codes(x, &at, steps), bq, factors, 0, 1, multiplier);
        const tile_t high =
            query_tile(block, dot_codes(x, &at, steps), bq, factors, 2, 3, multiplier);
        even = pairs_of(low.column0, high.column0);
        odd = pairs_of(low.column1, high.column1);
        factors += kColumns;
      } else {
        const int8_t* next = at + 2 * d;
        const tile_t first =
            query_tile(block, dot_int8(x, &at, &next, steps), bq, NULL, 0, 2, multiplier);
        even = pairs_of(first.column0, first.column1);
        const tile_t second =
            query_tile(block, dot_int8(x, &at, &next, steps), bq, NULL, 1, 3, multiplier);
        odd = pairs_of(second.column0, second.column1);
        at = next;
      }
      vstrwq_scatter_offset_s32((int32_t*)(void*)(piece + c), offsets, bytes_of(even, odd, zero));
      bq += kColumns;
    }
    piece += kRows * kPiece;
  }
}

static void query(const embbert_block_t* block, const group_t* group) {
  if (block->weight_bits == 4) {
    query_of(block, group, 1);
  } else {
    query_of(block, group, 0);
  }
}

// The first key of a piece of scores: the last keys come first, as context() wants them.
static inline int32_t first_key(const group_t* group, int32_t piece) {
  return 8 * (piece == 0 ? group->padded_n / 8 - 1 : piece - 1);
}

// q against xhat (n, D): scores in 1/256 octaves. q's zero point is in `sums`.
static void score(const embbert_block_t* block, const group_t* group, const int8_t* xhat,
                  int32_t n) {
  const int32_t d = block->hidden;
  const int32_t shift = block->score_shift;
  const int32x4_t multiplier = vdupq_n_s32(block->score_multiplier);
  const steps_t steps = steps_of(d / 16);
  const uint32x4_t offsets = rows_apart(kPiece);
  const int32_t pieces = group->padded_n / 8;
  const int8_t* const q = group->q;
  const int32_t* const sums = group->sums;
  int16_t* to = group->weights;
  for (int32_t piece = 0; piece < pieces; piece++) {
    const int32_t first = first_key(group, piece);
    const int32_t end = n - first < 8 ? n : first + 8;
    const int8_t* key = xhat + first * d;
    for (int32_t j = first; j < end; j += kColumns) {
      const int32_t left = end - j;
      int32_t next = d, third = 2 * d, fourth = 3 * d;
      if (left < kColumns) {  // keys beyond the last are computed like it
        next = left > 1 ? next : 0;
        third = left > 2 ? third : next;
        fourth = third;
      }
      const int8_t *key0 = key, *key1 = key + next, *key2 = key + third, *key3 = key + fourth;
      const tile_t even = dot_int8(q, &key0, &key2, steps);
      const tile_t odd = dot_int8(q, &key1, &key3, steps);
      key = key3;
      const int16x8_t pairs01 =
          pairs_of(scale(vaddq_n_s32(even.column0, sums[j]), shift, multiplier),
                   scale(vaddq_n_s32(odd.column0, sums[j + 1]), shift, multiplier));
      const int16x8_t pairs23 =
          pairs_of(scale(vaddq_n_s32(even.column1, sums[j + 2]), shift, multiplier),
                   scale(vaddq_n_s32(odd.column1, sums[j + 3]), shift, multiplier));
      vstrwq_scatter_offset_s32((int32_t*)(void*)to, offsets, vreinterpretq_s32_s16(pairs01));
      vstrwq_scatter_offset_s32((int32_t*)(void*)(to + 2), offsets, vreinterpretq_s32_s16(pairs23));
      to += kColumns;
    }
    to = group->weights + (piece + 1) * kRows * 8;
  }
}

// One row of scores (padded_n/8, 4, 8), of which `count` in the first piece are keys', to weights
// in place, the padding to zero; returns their sum.
static uint32_t exponentials(int16_t* row, int32_t padded_n, int32_t count) {
  const mve_pred16_t keys = vctp16q((uint32_t)count);
  vst1q_s16(row, vpselq_s16(vld1q_s16(row), vdupq_n_s16(-32768), keys));
  int16_t highest = -32768;
  const int16_t* score = row;
  for (int32_t j = 0; j < padded_n; j += 8) {
    highest = vmaxvq_s16(highest, vld1q_s16(score));
    score += kRows * 8;
  }
  const uint16x8_t most = vdupq_n_u16((uint16_t)highest);
  uint16_t* weights = (uint16_t*)row;
  uint32_t sum = 0;
  for (int32_t j = 0; j < padded_n; j += 8) {
    uint16x8_t below = vsubq_u16(most, vld1q_u16(weights));
    below = vminq_u16(below, vdupq_n_u16(EMBBERT_SCORE_FLOOR));
    const uint16x8_t fraction = vandq_u16(below, vdupq_n_u16(255));
    const uint16x8_t one_octave = vldrhq_gather_shifted_offset_u16(embbert_exp2_table, fraction);
    const int16x8_t octaves = vreinterpretq_s16_u16(vshrq_n_u16(below, 8));
    const uint16x8_t weight = vrshlq_u16(one_octave, vnegq_s16(octaves));
    vst1q_u16(weights, weight);
    sum = vaddvaq_u16(sum, weight);
    weights += kRows * 8;
  }
  const int16x8_t first = vld1q_s16(row);
  const int16x8_t masked = vpselq_s16(first, vdupq_n_s16(0), keys);
  vst1q_s16(row, masked);
  if (padded_n - 8 + count > EMBBERT_MOST_WHOLE_WEIGHTS) {
    return embbert_halve_weights(row, padded_n / 8, 8, kRows * 8);
  }
  return sum - (uint32_t)vaddvq_s16(vsubq_s16(first, masked));
}

// c = 256 * weights . xhat / sums, for xhat (n, D).
static void context(const group_t* group, const int32_t* shifts, const int32_t* multipliers,
                    const int8_t* xhat, int32_t n, int32_t d) {
  const uint16x8_t even = multiples_of(d);
  const uint16x8_t odd = vaddq_n_u16(even, 1);
  const steps_t steps = steps_of(group->padded_n / 8);
  const int32_t first = first_key(group, 0);
  const int8_t* const tail = xhat + first * d;
  const uint32x4_t offsets = rows_apart(kPiece);
  int16_t* piece = group->c;
  for (int32_t i = 0; i < d / 8; i++) {
    for (int32_t c = 0; c < 8; c += 2) {
      const int32_t column = 8 * i + c;
      const tile_t acc = dot_columns(group->weights, tail + column, n - first, xhat + column, even,
                                     odd, 8 * d, steps);
      const int32x4_t shift = vld1q_s32(shifts), multiplier = vld1q_s32(multipliers);
      const int32x4_t c0 = vrmulhq_s32(vshlq_s32(acc.column0, shift), multiplier);
      const int32x4_t c1 = vrmulhq_s32(vshlq_s32(acc.column1, shift), multiplier);
      vstrwq_scatter_offset_s32((int32_t*)(void*)(piece + c), offsets,
                                vreinterpretq_s32_s16(pairs_of(c0, c1)));
    }
    piece += kRows * 8;
  }
}

// Taps that the convolution of rows up to `last` computes with, padded.
static int32_t padded_taps(const embbert_block_t* block, int32_t last) {
  const int32_t taps = block->taps < last + 1 ? block->taps : last + 1;
  return (taps + kTaps - 1) / kTaps * kTaps;
}

// `count` int8, the `offsets` (0, stride, ... 7 * stride) apart, to neighbouring ones.
static inline void gather(const int8_t* from, int32_t stride, uint16x8_t offsets, int32_t count,
                          int8_t* to) {
  int16x8_t values;
  const int32_t eight = 8 * stride;
  __asm__ volatile(
      "dlstp.16 lr, %[count]\n"
      "1: vldrb.s16 %q[values], [%[from], %q[offsets]]\n"
      "add %[from], %[eight]\n"
      "vstrb.16 %q[values], [%[to]], #8\n"
      "letp lr, 1b\n"
      : [values] "=&w"(values), [from] "+r"(from), [to] "+r"(to)
      : [count] "r"(count), [offsets] "w"(offsets), [eight] "r"(eight)
      : "lr", "memory");
}

#define TAPS_STEP(mla)                    \
  "vldrb.8 %q[w], [%[taps]], #16\n"       \
  "vldrb.8 %q[b1], [%[window], #1]\n" mla \
  " r2, %q[b1], %q[w]\n"                  \
  "vldrb.8 %q[b0], [%[window], #2]\n" mla \
  " r4, %q[b0], %q[w]\n"                  \
  "vldrb.8 %q[b1], [%[window], #3]\n" mla \
  " r6, %q[b1], %q[w]\n"                  \
  "vldrb.8 %q[b0], [%[window], #4]\n" mla \
  " r8, %q[b0], %q[w]\n"                  \
  "vldrb.8 %q[b1], [%[window], #5]\n" mla \
  " r10, %q[b1], %q[w]\n"                 \
  "vldrb.8 %q[b0], [%[window], #6]\n" mla \
  " r12, %q[b0], %q[w]\n"                 \
  "vldrb.8 %q[b1], [%[window], #7]\n" mla \
  " lr, %q[b1], %q[w]\n"                  \
  "vldrb.8 %q[b0], [%[window]], #16\n" mla " r0, %q[b0], %q[w]\n"

// Eight neighbouring outputs of a channel: column 0 has the even ones, column 1 the odd ones.
INLINE tile_t slide(const int8_t* window, const int8_t* taps, int32_t steps) {
  register const int8_t* window_in __asm__("r1") = window;
  register const int8_t* taps_in __asm__("r3") = taps;
  register int32_t steps_in __asm__("r5") = steps;
  tile_t to;
  int8x16_t w;
  __asm__ volatile(TAPS_STEP("vmladav.s8")
                   "subs %[steps], #1\n"
                   "beq 2f\n"
                   "1:\n" TAPS_STEP("vmladava.s8")
                   "subs %[steps], #1\n"
                   "bne 1b\n"
                   "2:\n" RESULTS
                   : [b0] "=&w"(to.column0), [b1] "=&w"(to.column1), [w] "=&w"(w),
                     [window] "+r"(window_in), [taps] "+r"(taps_in), [steps] "+r"(steps_in)
                   :
                   : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory");
  return to;
}

// SiLU(causal depthwise convolution of xhat (n, D)) of `rows` rows, t and following: to
// `to` (rows, E*D), or to four rows of scratch in pieces by turns.
static void convolve(const embbert_block_t* block, int8_t* columns, const int8_t* xhat, int32_t t,
                     int32_t rows, int8_t* to, int in_pieces) {
  const int32_t d = block->hidden;
  const int32_t e = block->expansion;
  const int32_t shift = block->conv_shift, zero = block->y_zero;
  // Padding taps are zero, and they come first; so do the rows before the sentence.
  const int32_t taps = padded_taps(block, t + rows - 1);
  const int32_t absent_taps = embbert_larger(taps - block->taps, 0);
  const int32_t first = t - taps + 1;
  const int32_t absent_rows = embbert_larger(-first, 0);
  const int32_t present_rows = t + rows - first - absent_rows;
  const uint16x8_t offsets = multiples_of(d);
  const int32_t stride = in_pieces ? kPiece : e * d;
  const uint16x8_t apart = multiples_of(stride);
  const int32_t last = embbert_larger(rows - kOutputs, 0);
  const mve_pred16_t stored = vctp16q((uint32_t)(rows - last));
  int8_t* const padded = columns;        // taps, where some are absent
  int8_t* const window = padded + taps;  // taps - 1 + rows, rows rounded up to a multiple of 8
  memset(padded, 0, (size_t)(2 * taps));
  const int8_t* channel_taps = block->conv;
  xhat += (first + absent_rows) * d;
  const int32_t* multipliers = block->conv_multipliers;
  const int32_t* biases = block->conv_bias;
  int32_t channel = 0;
  for (int32_t c = 0; c < d; c++) {
    gather(xhat + c, d, offsets, present_rows, window + absent_rows);
    for (int32_t end = channel + e; channel < end; channel++) {
      const int8_t* w = channel_taps + block->taps - taps;
      if (absent_taps > 0) {
        memcpy(padded + absent_taps, channel_taps, (size_t)block->taps);
        w = padded;
      }
      channel_taps += block->taps;
      const int32_t bias = *biases++;
      const int32x4_t multiplier = vdupq_n_s32(*multipliers++);
      int8_t* row = to + (in_pieces ? in_piece(channel) : channel);
      for (int32_t i = 0;;) {
        const tile_t acc = slide(window + i, w, taps / kTaps);
        const int32x4_t even = scale(vaddq_n_s32(acc.column0, bias), shift, multiplier);
        const int32x4_t odd = scale(vaddq_n_s32(acc.column1, bias), shift, multiplier);
        const uint16x8_t y = uint8_of(pairs_of(even, odd), zero + 128);
        vstrbq_scatter_offset_p_s16(row + i * stride, apart,
                                    vldrbq_gather_offset_s16(block->silu, y), stored);
        if (i == last) break;
        i = i + kOutputs < last ? i + kOutputs : last;  // some of the last outputs twice
      }
    }
  }
}

// The same of row 0 alone, which its own tap alone meets, to scratch.
static void convolve_first(const embbert_block_t* block, const int8_t* xhat, int8_t* to) {
  const int32_t e = block->expansion;
  const int32_t inner = e * block->hidden;
  const int32_t shift = block->conv_shift, zero = block->y_zero;
  const int8_t* tap = block->conv + block->taps - 1;
  const int8_t* const silu = block->silu + 128;
  for (int32_t channel = 0; channel < inner; channel++) {
    const int32_t acc = block->conv_bias[channel] + xhat[channel / e] * *tap;
    to[in_piece(channel)] =
        silu[embbert_requantize(acc, shift, block->conv_multipliers[channel], zero)];
    tap += block->taps;
  }
}

// Two columns of a + z in 256ths of a step, from their sums of products and what z's begin with.
INLINE tile_t project_tile(const embbert_block_t* block, tile_t a, tile_t z, int32_t bias0,
                           int32_t bias1) {
  const int32x4_t a_multiplier = vdupq_n_s32(block->a_multiplier);
  const int32x4_t z_multiplier = vdupq_n_s32(block->z_multiplier);
  return (tile_t){vaddq_s32(scale(a.column0, block->a_shift, a_multiplier),
                            scale(vaddq_n_s32(z.column0, bias0), block->z_shift, z_multiplier)),
                  vaddq_s32(scale(a.column1, block->a_shift, a_multiplier),
                            scale(vaddq_n_s32(z.column1, bias1), block->z_shift, z_multiplier))};
}

// c.Wv + s.Wz + bz: rows of out. `coded`: whether weights have 4 bits.
INLINE void project_of(const embbert_block_t* block, const group_t* group, int8_t* out, int coded) {
  const int32_t d = block->hidden;
  const int32_t inner = block->expansion * d;
  const steps_t steps = steps_of(d / 8), inner_steps = steps_of(inner / 16);
  const uint32x4_t offsets = rows_apart(d);
  const mve_pred16_t stored = vctp32q((uint32_t)group->rows);
  const int32_t zero = block->out_zero;
  const int8_t *wv = block->wv, *wv_factors = block->wv_factors;  // (D, D)
  const int8_t *wz = block->wz, *wz_factors = block->wz_factors;  // (D, E*D)
  const int32_t* bz = block->bz;
  const int16_t* const c = group->c;
  const int8_t* const s = group->s;
  for (int32_t column = 0; column < d; column += kColumns) {
    int16x8_t even, odd;
    if (coded) {
      tile_t tiles[2];  // columns 0 and 1, 2 and 3
      for (int32_t i = 0; i < 2; i++) {
        const tile_t a = times(dot_codes_int16(c, &wv, steps), wv_factors[0], wv_factors[1]);
        const tile_t z = times(dot_codes(s, &wz, inner_steps), wz_factors[0], wz_factors[1]);
        tiles[i] = project_tile(block, a, z, bz[0], bz[1]);
        wv_factors += 2;
        wz_factors += 2;
        bz += 2;
      }
      even = rounded_pairs_of(tiles[0].column0, tiles[1].column0);
      odd = rounded_pairs_of(tiles[0].column1, tiles[1].column1);
    } else {
      const int8_t *wv2 = wv + 2 * d, *wz2 = wz + 2 * inner;
      int16x8_t pairs[2];  // columns 0 and 2, 1 and 3
      for (int32_t i = 0; i < 2; i++) {
        const tile_t a = dot_int16(c, &wv, &wv2, steps);
        const tile_t z = dot_int8(s, &wz, &wz2, inner_steps);
        const tile_t tile = project_tile(block, a, z, bz[i], bz[2 + i]);
        pairs[i] = rounded_pairs_of(tile.column0, tile.column1);
      }
      even = pairs[0];
      odd = pairs[1];
      wv = wv2;
      wz = wz2;
      bz += kColumns;
    }
    store(out, offsets, even, odd, zero, stored);
    out += kColumns;
  }
}

static void project(const embbert_block_t* block, const group_t* group, int8_t* out) {
  if (block->weight_bits == 4) {
    project_of(block, group, out, 1);
  } else {
    project_of(block, group, out, 0);
  }
}

// EMBBERT_BLOCK_SCRATCH_BYTES of the header knows these.
_Static_assert(kRows == 4 && kTaps == 16 && kOutputs == 8, "rows of a group");

static group_t lay_out(const embbert_block_t* block, int32_t n, void* scratch) {
  const uint32_t d = (uint32_t)block->hidden, e = (uint32_t)block->expansion;
  uint8_t* next = (uint8_t*)scratch;
  group_t group;
  group.q = (int8_t*)next;
  group.c = (int16_t*)(void*)next;
  next += EMBBERT_SCRATCH_CONTEXT(d);
  group.x = (int8_t*)next;
  group.weights = (int16_t*)(void*)next;
  group.s = (int8_t*)next;
  next += EMBBERT_SCRATCH_WEIGHTS(d, e, (uint32_t)n);
  group.sums = (int32_t*)(void*)next;
  next += EMBBERT_SCRATCH_SUMS((uint32_t)n);
  group.columns = (int8_t*)next;
  group.padded_n = (int32_t)EMBBERT_ROUND_UP((uint32_t)n, 8u);
  return group;
}

embbert_status_t embbert_block_rows(const embbert_block_t* block, int8_t* x, int32_t n,
                                    int32_t rows, int8_t* out, void* scratch, size_t scratch_size,
                                    const embbert_hook_t* hook) {
  (void)scratch_size;
  const int32_t d = block->hidden;
  // Without expansion, the convolution's results have the output's shape, and wait in its place.
  const int whole = block->expansion == 1 && rows > 1;
  group_t group = lay_out(block, n, scratch);

  EMBBERT_PROFILE_START(mark);
  normalize(block, x, n, group.sums);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_NORM);
  if (whole) convolve(block, group.columns, x, 0, rows, out, 0);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONV);
  for (int32_t t = 0; t < rows; t += kRows) {
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    group.rows = rows - t < kRows ? rows - t : kRows;
    interleave(x + t * d, group.rows, d, group.x);
    query(block, &group);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_QUERY);
    score(block, &group, x, n);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SCORES);
    int32_t shifts[kRows] = {0}, multipliers[kRows] = {0};
    for (int32_t row = 0; row < group.rows; row++) {
      const embbert_factor_t factor = embbert_mean_factor(
          exponentials(group.weights + row * 8, group.padded_n, n - first_key(&group, 0)));
      shifts[row] = factor.shift;
      multipliers[row] = factor.multiplier;
    }
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_SOFTMAX);
    context(&group, shifts, multipliers, x, n, d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONTEXT);
    if (whole) {
      interleave(out + t * d, group.rows, d, group.s);
    } else if (rows == 1) {
      convolve_first(block, x, group.s);
    } else {
      convolve(block, group.columns, x, t, group.rows, group.s, 1);
    }
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_CONV);
    project(block, &group, out + t * d);
    EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_PROJECT);
  }
  return EMBBERT_OK;
}

#endif  // EMBBERT_USE_MVE

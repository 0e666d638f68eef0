// EmbBERT's int8 kernels: nano embedder, whole block, classifier head.
//
// C11, no heap, no libc beyond memcpy/memset, no floating point. docs/kernels.md explains the
// arithmetic; converters/kernels/reference.py is its exact twin in NumPy. One contract, three
// implementations chosen at compile time (see embbert_implementation below): portable C,
// Armv7E-M DSP instructions, Armv8.1-M MVE. All give the same bytes.
//
// Contracts that hold for every function:
//   D      hidden size, a multiple of 16, 16..512      n  tokens, 1..EMBBERT_MAX_LENGTH
//   E      expansion, 1..8                             K  taps stored, 1..64
//   R      reduced embedding size, a multiple of 4, 4..32
//   Matrices are row-major, innermost dimension last, with no padding between rows.
//   int8 matrices and int32 vectors, options blobs included, are 4-byte aligned.
//   A matrix of 4 bits has two rows in one of bytes: a byte is 16 times the second row's code plus
//   the first's, -7..7; an odd last row is first beside zeros. A weight is its code times its row's
//   factor; see converters/kernels/packing.py.
//   Buffers (n, D) and scratch are 8-byte aligned and do not overlap one another or the weights.
//   Nothing is read or written outside the stated extents, not even to be ignored.
//   No function keeps state: any number of models may share buffers, one call at a time.
#ifndef EMBBERT_KERNELS_H_
#define EMBBERT_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMBBERT_MAX_LENGTH 1024
#define EMBBERT_MAX_HIDDEN 512
#define EMBBERT_MAX_REDUCED 32
#define EMBBERT_MAX_EXPANSION 8
#define EMBBERT_MAX_TAPS 64
#define EMBBERT_MAX_BLOCKS 16

typedef enum {
  EMBBERT_OK = 0,
  EMBBERT_ERROR_ARGUMENT = 1,  // a null or misaligned pointer
  EMBBERT_ERROR_OPTIONS = 2,   // an options blob of another kind or version, or out of range
  EMBBERT_ERROR_LENGTH = 3,    // n outside 1..max_length, or rows neither n nor 1
  EMBBERT_ERROR_ID = 4,        // a token id >= vocab_size or a segment that is not 1 or 2
  EMBBERT_ERROR_SCRATCH = 5,   // scratch smaller than the *_scratch_size function says
  EMBBERT_ERROR_MODEL = 6,     // blocks that do not fit one another
  EMBBERT_ERROR_ABORTED = 7,   // the caller's hook said so
} embbert_status_t;

// Nano embedder. Call embbert_embed_init, then fill in the four pointers.
typedef struct {
  int32_t vocab_size;          // V
  int32_t max_length;          // S
  int32_t reduced;             // R
  int32_t hidden;              // D
  int32_t shift;               // accumulator to x0: shift and multipliers, then zero
  int32_t zero;                // zero point of x0
  int32_t token_bits;          // of the codes of `token`: 8, or 2, 3, 4
  int32_t token_factor;        // an entry is its code times this
  int32_t weight_bits;         // of `weight`, whose factors are 1: 8 or 4
  const int32_t* multipliers;  // (D), inside the options blob
  // Weights:
  const int8_t* token;     // (V, R); rows of fewer bits are EMBBERT_TOKEN_ROW_BYTES long
  const int8_t* position;  // (S, R)
  const int8_t* weight;    // (D, 2R): columns 0..R-1 meet the token, R..2R-1 the position
  const int32_t* bias;     // (2, D): row s-1 for segment s
} embbert_embed_t;

// One layer. Call embbert_block_init, then fill in the seven pointers.
typedef struct {
  int32_t hidden;                   // D
  int32_t expansion;                // E
  int32_t taps;                     // K columns of `conv`: the last of the model's taps
  int32_t x_zero;                   // zero point of the input
  int32_t norm_epsilon;             // RMSNorm's epsilon in units of a sum of squares
  int32_t norm_multiplier;          // sqrt(D) / scale of xhat, mantissa in 2^30..2^31
  int32_t norm_exponent;            //   and exponent: mantissa * 2^(exponent - 31)
  int32_t q_shift, q_multiplier;    // query accumulator to int8
  int32_t q_zero;                   //
  int32_t score_shift;              // score accumulator to 1/256 octaves
  int32_t score_multiplier;         //
  int32_t conv_shift;               // convolution accumulator to int8 (conv_multipliers)
  int32_t y_zero;                   //
  int32_t a_shift, a_multiplier;    // attention accumulator to 1/256 output steps
  int32_t z_shift, z_multiplier;    // contraction accumulator to 1/256 output steps
  int32_t out_zero;                 // zero point of the output
  int32_t weight_bits;              // of wq, wv and wz: 8 or 4
  const int32_t* conv_multipliers;  // (E*D), inside the options blob
  const int8_t* silu;               // (256) for y = -128..127, inside the options blob
  const int8_t* wq_factors;         // (D) each, inside the options blob; NULL for 8 bits
  const int8_t* wv_factors;         //
  const int8_t* wz_factors;         //
  // Weights:
  const int8_t* wq;          // (D, D), out x in
  const int32_t* bq;         // (D)
  const int8_t* wv;          // (D, D), out x in
  const int8_t* conv;        // (E*D, K): tap K-1 meets the current position
  const int32_t* conv_bias;  // (E*D)
  const int8_t* wz;          // (D, E*D), out x in
  const int32_t* bz;         // (D), zero point of SiLU's output folded in
} embbert_block_t;

// Classifier head. Call embbert_head_init, then fill in the two pointers.
typedef struct {
  int32_t hidden;              // D
  int32_t labels;              // L
  int32_t shift;               // accumulator to logits
  int32_t zero;                // zero point of the logits
  int32_t weight_bits;         // of `weight`, whose factors are 1: 8 or 4
  const int32_t* multipliers;  // (L), inside the options blob
  // Weights:
  const int8_t* weight;  // (L, D)
  const int32_t* bias;   // (L), zero point of the last block's output folded in
} embbert_head_t;

typedef struct {
  embbert_embed_t embed;
  const embbert_block_t* blocks;  // (num_blocks)
  int32_t num_blocks;
  embbert_head_t head;
} embbert_model_t;

// Bytes of a matrix of `rows` rows of `count` elements, and of a row of the token table.
#define EMBBERT_WEIGHT_BYTES(rows, count, bits) (((rows) * (bits) + 7) / 8 * (count))
#define EMBBERT_TOKEN_ROW_BYTES(reduced, bits) (((reduced) * (bits) + 7) / 8)

// Exactly one of the three files embbert_{portable,dsp,mve}.c compiles to anything.
#if defined(EMBBERT_FORCE_PORTABLE)
#define EMBBERT_USE_PORTABLE 1
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1) && !defined(EMBBERT_FORCE_DSP)
#define EMBBERT_USE_MVE 1
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32)
#define EMBBERT_USE_DSP 1
#elif defined(EMBBERT_FORCE_DSP)
#error "EMBBERT_FORCE_DSP: the compiler's target has no DSP instructions"
#else
#define EMBBERT_USE_PORTABLE 1
#endif

// Which implementation this library was compiled as: "portable", "dsp" or "mve". By default the
// best that the compiler's target has; EMBBERT_FORCE_PORTABLE or EMBBERT_FORCE_DSP choose a lesser
// one.
extern const char embbert_implementation[];

// Reads an options blob made by converters/kernels/params.py: `size` bytes of little-endian int32,
// 4-byte aligned, which must outlive the struct (it keeps pointers into it). Sets every weight
// pointer to NULL. Returns EMBBERT_OK, EMBBERT_ERROR_ARGUMENT or EMBBERT_ERROR_OPTIONS.
embbert_status_t embbert_embed_init(embbert_embed_t* embed, const void* options, size_t size);
embbert_status_t embbert_block_init(embbert_block_t* block, const void* options, size_t size);
embbert_status_t embbert_head_init(embbert_head_t* head, const void* options, size_t size);

// ids (n) below vocab_size; segments (n) 1 or 2, or NULL for all 1; out (n, D).
embbert_status_t embbert_embed(const embbert_embed_t* embed, const uint16_t* ids,
                               const uint8_t* segments, int32_t n, int8_t* out);

// What a long computation calls between its parts, with the scratch in use and the processor in the
// caller's task: to feed a watchdog, to let other work run, or to end it, by anything but 0.
typedef struct {
  int (*call)(void* context);
  void* context;
} embbert_hook_t;

// Bytes of scratch that embbert_block needs for up to `max_n` tokens and any `rows`:
// EMBBERT_BLOCK_SCRATCH_BYTES below of the block's shape.
size_t embbert_block_scratch_size(const embbert_block_t* block, int32_t max_n);

// x (n, D) is overwritten with its normalised form; out (rows, D). `rows` is n, or 1 for the first
// row alone (the last layer under a classifier head), which then costs little more than n dot
// products. A row of the result does not depend on `rows`. `hook`, or NULL, is called in between,
// once or more for every group of rows that the memory at hand lets go through the layer together.
embbert_status_t embbert_block(const embbert_block_t* block, int8_t* x, int32_t n, int32_t rows,
                               int8_t* out, void* scratch, size_t scratch_size,
                               const embbert_hook_t* hook);

// x (D), the first row of the last block's output; logits (L).
embbert_status_t embbert_head(const embbert_head_t* head, const int8_t* x, int8_t* logits);

// Bytes of each of embbert_infer's two buffers, and of its scratch, for up to max_n tokens.
size_t embbert_buffer_size(const embbert_model_t* model, int32_t max_n);
size_t embbert_scratch_size(const embbert_model_t* model, int32_t max_n);

// The whole model on n real tokens (no padding): ids (n), segments (n) or NULL, logits (L).
// Work and time follow n. `buffer_a` and `buffer_b` hold at least n * D bytes each. `hook`, or
// NULL, is called before every layer, and within it as embbert_block does.
embbert_status_t embbert_infer(const embbert_model_t* model, const uint16_t* ids,
                               const uint8_t* segments, int32_t n, int8_t* buffer_a,
                               int8_t* buffer_b, void* scratch, size_t scratch_size, int8_t* logits,
                               const embbert_hook_t* hook);

// Bytes of scratch as a constant, for static memory: of d = D, e = E, k = K and n tokens. The
// kernels lay their scratch out by the same parts, so that there is no second formula; it is that
// of the implementation that the compiler's flags select.
#define EMBBERT_ROUND_UP(value, multiple) (((value) + (multiple)-1u) / (multiple) * (multiple))
#define EMBBERT_LARGER(a, b) ((a) > (b) ? (a) : (b))
#if defined(EMBBERT_USE_PORTABLE)
// Two rows of int16, or one.
#define EMBBERT_SCRATCH_ROW(d, e, n) (2u * (d) + 2u * (e) * (d) + EMBBERT_ROUND_UP(2u * (n), 8u))
#define EMBBERT_BLOCK_SCRATCH_BYTES(d, e, k, n) \
  (((n) > 1u ? 2u : 1u) * EMBBERT_SCRATCH_ROW(d, e, n) + 0u * (k))
#elif defined(EMBBERT_USE_DSP)
// Two blocks of four rows of int16, or one; then the panel, which also holds the convolution's
// columns.
#define EMBBERT_SCRATCH_WORK(d, e, n) (8u * EMBBERT_LARGER((e) * (d), EMBBERT_ROUND_UP(n, 2u)))
#define EMBBERT_SCRATCH_PANEL(k) (4u * EMBBERT_LARGER(64u, EMBBERT_ROUND_UP(k, 8u) + 8u))
#define EMBBERT_BLOCK_SCRATCH_BYTES(d, e, k, n) \
  (((n) > 4u ? 2u : 1u) * (8u * (d) + EMBBERT_SCRATCH_WORK(d, e, n)) + EMBBERT_SCRATCH_PANEL(k))
#else
#define EMBBERT_SCRATCH_CONTEXT(d) (8u * (d))
#define EMBBERT_SCRATCH_WEIGHTS(d, e, n) \
  (4u * EMBBERT_LARGER(2u * EMBBERT_ROUND_UP(n, 8u), (e) * (d)))
#define EMBBERT_SCRATCH_SUMS(n) EMBBERT_ROUND_UP(4u * (n), 16u)
#define EMBBERT_SCRATCH_COLUMNS(k, n) (2u * EMBBERT_ROUND_UP(k, 16u) + EMBBERT_ROUND_UP(n, 8u))
#define EMBBERT_BLOCK_SCRATCH_BYTES(d, e, k, n)                                              \
  (EMBBERT_SCRATCH_CONTEXT(d) + EMBBERT_SCRATCH_WEIGHTS(d, e, n) + EMBBERT_SCRATCH_SUMS(n) + \
   EMBBERT_SCRATCH_COLUMNS(k, n))
#endif

#ifdef EMBBERT_PROFILE
// With EMBBERT_PROFILE, the library adds up what each step costs by calling the application's
// embbert_clock (a free-running counter) at its beginning and end. embbert_profile is the sum since
// the application last cleared it, in the unit that the application's embbert_clock_units makes of
// a difference of two clocks: rounding every difference by itself keeps an exact unit exact.
enum {
  EMBBERT_STEP_EMBED,
  EMBBERT_STEP_NORM,     // sums of squares, rsqrt, scaling
  EMBBERT_STEP_QUERY,    // x.Wq + bq
  EMBBERT_STEP_SCORES,   // q.xT
  EMBBERT_STEP_SOFTMAX,  // exponentials and their sum
  EMBBERT_STEP_CONTEXT,  // A.x
  EMBBERT_STEP_CONV,     // depthwise convolution and SiLU
  EMBBERT_STEP_PROJECT,  // c.Wv and s.Wz, weighted difference
  EMBBERT_STEP_HEAD,
  EMBBERT_STEPS
};
uint32_t embbert_clock(void);
uint32_t embbert_clock_units(uint32_t ticks);
extern uint32_t embbert_profile[EMBBERT_STEPS];
extern const char* const embbert_step_names[EMBBERT_STEPS];
#endif

#ifdef __cplusplus
}
#endif

#endif  // EMBBERT_KERNELS_H_

// MAMBA's selective scan in int8, with a state of int32: the kernel of EMBBERT_SELECTIVE_SCAN.
//
//   h_t = exp(d_t A) h_{t-1} + d_t u_t B_t,    y_t = h_t C_t + D u_t,    d = softplus(steps)
//
// C11, no heap, no floating point. docs/selective_scan.md explains the arithmetic;
// converters/kernels/selective_scan.py is its exact twin in NumPy and makes the options. Whatever
// the compiler's target, the bytes are the same.
//
//   ED  channels, 1..512      N  states of a channel, 1..16      n  tokens, 1..1024
#ifndef EMBBERT_TFLM_APP_TFLM_EMBBERT_SCAN_H_
#define EMBBERT_TFLM_APP_TFLM_EMBBERT_SCAN_H_

#include "embbert_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMBBERT_SCAN_MAX_CHANNELS 512
#define EMBBERT_SCAN_MAX_STATES 16

// Call embbert_scan_init, then fill in the two last pointers.
typedef struct {
  int32_t channels;               // ED
  int32_t states;                 // N
  int32_t u_zero;                 // zero points
  int32_t state_in_zero;          //   of B,
  int32_t state_out_zero;         //   of C
  int32_t y_zero;                 //
  int32_t fraction;               // bits behind the point of exponents of 2
  int32_t state_in_shift;         // what B and C are shifted by to the left
  int32_t state_out_shift;        //
  int32_t y_shift, y_multiplier;  // sums of states to 1/256 steps of y
  const int32_t* delta;           // (256) d for steps = -128..127, inside the options blob
  // Weights, 4-byte aligned:
  const int32_t* decay;  // (ED, N) -A log2(e), at least 0
  const int32_t* skip;   // (ED) D
} embbert_scan_t;

// Bytes of scratch, 8-byte aligned: the state, and B and C of one token.
#define EMBBERT_SCAN_SCRATCH_BYTES(channels, states) (4u * ((channels) + 2u) * (states))

// Reads an options blob as embbert_block_init does.
embbert_status_t embbert_scan_init(embbert_scan_t* scan, const void* options, size_t size);

// u, steps and y (n, ED); state_in, B, and state_out, C, (n, N). None needs an alignment. Row t of
// y depends on the rows 0..t; y may be u.
embbert_status_t embbert_scan(const embbert_scan_t* scan, const int8_t* u, const int8_t* steps,
                              const int8_t* state_in, const int8_t* state_out, int32_t n, int8_t* y,
                              void* scratch, size_t scratch_size);

#ifdef __cplusplus
}
#endif

#endif  // EMBBERT_TFLM_APP_TFLM_EMBBERT_SCAN_H_

// Options, arguments, sizes, and the little arithmetic that is done once a row or once a sentence:
// the same code for every implementation.

#include "embbert_internal.h"

// Version and kind of an options blob; the names are those of converters/kernels/params.py.
#define EMBED_MAGIC 0x31424D45
#define BLOCK_MAGIC 0x314B4C42
#define HEAD_MAGIC 0x31444548
// With weights of few bits.
#define CODED_EMBED_MAGIC 0x33424D45
#define CODED_BLOCK_MAGIC 0x334B4C42
#define CODED_HEAD_MAGIC 0x33444548

#define EMBED_SCALARS 6
#define CODED_EMBED_SCALARS 9
#define BLOCK_SCALARS 19
#define HEAD_SCALARS 4
#define SILU_WORDS 64
#define MOST_FACTOR 18  // times a code of 4 bits is still int8

#ifdef EMBBERT_PROFILE
uint32_t embbert_profile[EMBBERT_STEPS];
const char* const embbert_step_names[EMBBERT_STEPS] = {
    "embed", "norm", "query", "scores", "softmax", "context", "conv", "project", "head"};
#endif

static int is_aligned(const void* pointer, uintptr_t alignment) {
  return pointer != NULL && ((uintptr_t)pointer & (alignment - 1)) == 0;
}

static int in_range(int32_t value, int32_t low, int32_t high) {
  return value >= low && value <= high;
}

static int is_int8(int32_t value) { return in_range(value, -128, 127); }

static int is_magic(const void* options, size_t size, int32_t magic) {
  return is_aligned(options, 4) && size >= 4 && *(const int32_t*)options == magic;
}

// Blobs are little-endian, and so is every target of the kernels.
static embbert_status_t open_options(const void* options, size_t size, int32_t magic,
                                     size_t scalars, const int32_t** words) {
  if (!is_aligned(options, 4)) return EMBBERT_ERROR_ARGUMENT;
  const int32_t* blob = (const int32_t*)options;
  if (size < 4 * (2 + scalars) || blob[0] != magic || blob[1] < 0 || (size_t)blob[1] != size / 4 ||
      size % 4 != 0) {
    return EMBBERT_ERROR_OPTIONS;
  }
  *words = blob + 2;
  return EMBBERT_OK;
}

static int is_hidden(int32_t hidden) {
  return in_range(hidden, 16, EMBBERT_MAX_HIDDEN) && hidden % 16 == 0;
}

static int is_shift(int32_t shift) { return in_range(shift, 0, 30); }

embbert_status_t embbert_embed_init(embbert_embed_t* embed, const void* options, size_t size) {
  if (embed == NULL) return EMBBERT_ERROR_ARGUMENT;
  const int32_t* word;
  const int coded = is_magic(options, size, CODED_EMBED_MAGIC);
  const size_t scalars = coded ? CODED_EMBED_SCALARS : EMBED_SCALARS;
  const embbert_status_t status =
      open_options(options, size, coded ? CODED_EMBED_MAGIC : EMBED_MAGIC, scalars, &word);
  if (status != EMBBERT_OK) return status;
  *embed = (embbert_embed_t){.vocab_size = word[0],
                             .max_length = word[1],
                             .reduced = word[2],
                             .hidden = word[3],
                             .shift = word[4],
                             .zero = word[5],
                             .token_bits = coded ? word[6] : 8,
                             .token_factor = coded ? word[7] : 1,
                             .weight_bits = coded ? word[8] : 8,
                             .multipliers = word + scalars};
  if (!in_range(embed->vocab_size, 1, 65536) ||
      !in_range(embed->max_length, 1, EMBBERT_MAX_LENGTH) ||
      !in_range(embed->reduced, 4, EMBBERT_MAX_REDUCED) || embed->reduced % 4 != 0 ||
      !is_hidden(embed->hidden) || !is_shift(embed->shift) || !is_int8(embed->zero) ||
      (embed->weight_bits != 8 && embed->weight_bits != 4) ||
      size / 4 != 2 + scalars + (size_t)embed->hidden) {
    return EMBBERT_ERROR_OPTIONS;
  }
  if (embed->token_bits == 8) return embed->token_factor == 1 ? EMBBERT_OK : EMBBERT_ERROR_OPTIONS;
  if (!in_range(embed->token_bits, 2, 4) || !in_range(embed->token_factor, 1, 127)) {
    return EMBBERT_ERROR_OPTIONS;
  }
  return EMBBERT_OK;
}

embbert_status_t embbert_block_init(embbert_block_t* block, const void* options, size_t size) {
  if (block == NULL) return EMBBERT_ERROR_ARGUMENT;
  const int32_t* word;
  const int coded = is_magic(options, size, CODED_BLOCK_MAGIC);
  const embbert_status_t status =
      open_options(options, size, coded ? CODED_BLOCK_MAGIC : BLOCK_MAGIC, BLOCK_SCALARS, &word);
  if (status != EMBBERT_OK) return status;
  *block = (embbert_block_t){.hidden = word[0],
                             .expansion = word[1],
                             .taps = word[2],
                             .x_zero = word[3],
                             .norm_epsilon = word[4],
                             .norm_multiplier = word[5],
                             .norm_exponent = word[6],
                             .q_shift = word[7],
                             .q_multiplier = word[8],
                             .q_zero = word[9],
                             .score_shift = word[10],
                             .score_multiplier = word[11],
                             .conv_shift = word[12],
                             .y_zero = word[13],
                             .a_shift = word[14],
                             .a_multiplier = word[15],
                             .z_shift = word[16],
                             .z_multiplier = word[17],
                             .out_zero = word[18],
                             .weight_bits = coded ? 4 : 8,
                             .conv_multipliers = word + BLOCK_SCALARS};
  if (!is_hidden(block->hidden) || !in_range(block->expansion, 1, EMBBERT_MAX_EXPANSION) ||
      !in_range(block->taps, 1, EMBBERT_MAX_TAPS) || !is_int8(block->x_zero) ||
      !in_range(block->norm_epsilon, 0, (1 << 30) - 1) || block->norm_multiplier < 1 << 30 ||
      !in_range(block->norm_exponent, 1, 24) || !is_shift(block->q_shift) ||
      !is_int8(block->q_zero) || !is_shift(block->score_shift) || !is_shift(block->conv_shift) ||
      !is_int8(block->y_zero) || !is_shift(block->a_shift) || !is_shift(block->z_shift) ||
      !is_int8(block->out_zero)) {
    return EMBBERT_ERROR_OPTIONS;
  }
  const int32_t inner = block->expansion * block->hidden;
  const int32_t factors = coded ? 3 * block->hidden : 0;
  if (size / 4 != (size_t)(2 + BLOCK_SCALARS + inner + SILU_WORDS + factors / 4)) {
    return EMBBERT_ERROR_OPTIONS;
  }
  block->silu = (const int8_t*)(block->conv_multipliers + inner);
  if (!coded) return EMBBERT_OK;
  block->wq_factors = block->silu + 4 * SILU_WORDS;
  block->wv_factors = block->wq_factors + block->hidden;
  block->wz_factors = block->wv_factors + block->hidden;
  for (int32_t i = 0; i < factors; i++) {
    if (!in_range(block->wq_factors[i], 1, MOST_FACTOR)) return EMBBERT_ERROR_OPTIONS;
  }
  return EMBBERT_OK;
}

embbert_status_t embbert_head_init(embbert_head_t* head, const void* options, size_t size) {
  if (head == NULL) return EMBBERT_ERROR_ARGUMENT;
  const int32_t* word;
  const int coded = is_magic(options, size, CODED_HEAD_MAGIC);
  const embbert_status_t status =
      open_options(options, size, coded ? CODED_HEAD_MAGIC : HEAD_MAGIC, HEAD_SCALARS, &word);
  if (status != EMBBERT_OK) return status;
  *head = (embbert_head_t){.hidden = word[0],
                           .labels = word[1],
                           .shift = word[2],
                           .zero = word[3],
                           .weight_bits = coded ? 4 : 8,
                           .multipliers = word + HEAD_SCALARS};
  if (!is_hidden(head->hidden) || !in_range(head->labels, 1, 65536) || !is_shift(head->shift) ||
      !is_int8(head->zero) || size / 4 != (size_t)(2 + HEAD_SCALARS + head->labels)) {
    return EMBBERT_ERROR_OPTIONS;
  }
  return EMBBERT_OK;
}

const int8_t* embbert_token_row(const embbert_embed_t* embed, int32_t id, int8_t* row) {
  const int32_t bits = embed->token_bits;
  const int32_t row_bytes = EMBBERT_TOKEN_ROW_BYTES(embed->reduced, bits);
  if (bits == 8) return embed->token + id * row_bytes;
  const uint8_t* next = (const uint8_t*)embed->token + id * row_bytes;
  uint32_t pool = 0;
  int32_t held = 0;  // bits in the pool
  for (int32_t i = 0; i < embed->reduced; i++) {
    if (held < bits) {
      pool |= (uint32_t)*next++ << held;
      held += 8;
    }
    const int32_t code = (int32_t)(pool << (32 - bits)) >> (32 - bits);
    row[i] = (int8_t)(code * embed->token_factor);
    pool >>= bits;
    held -= bits;
  }
  return row;
}

embbert_status_t embbert_embed(const embbert_embed_t* embed, const uint16_t* ids,
                               const uint8_t* segments, int32_t n, int8_t* out) {
  if (embed == NULL || ids == NULL || !is_aligned(out, 8) || !is_aligned(embed->token, 4) ||
      !is_aligned(embed->position, 4) || !is_aligned(embed->weight, 4) ||
      !is_aligned(embed->bias, 4)) {
    return EMBBERT_ERROR_ARGUMENT;
  }
  if (!in_range(n, 1, embed->max_length)) return EMBBERT_ERROR_LENGTH;
  for (int32_t t = 0; t < n; t++) {
    if (ids[t] >= embed->vocab_size) return EMBBERT_ERROR_ID;
    if (segments != NULL && segments[t] != 1 && segments[t] != 2) return EMBBERT_ERROR_ID;
  }
  EMBBERT_PROFILE_START(mark);
  embbert_embed_rows(embed, ids, segments, n, out);
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_EMBED);
  return EMBBERT_OK;
}

size_t embbert_block_scratch_size(const embbert_block_t* block, int32_t max_n) {
  return EMBBERT_BLOCK_SCRATCH_BYTES((size_t)block->hidden, (size_t)block->expansion,
                                     (size_t)block->taps, (size_t)max_n);
}

embbert_status_t embbert_block(const embbert_block_t* block, int8_t* x, int32_t n, int32_t rows,
                               int8_t* out, void* scratch, size_t scratch_size,
                               const embbert_hook_t* hook) {
  if (block == NULL || !is_aligned(x, 8) || !is_aligned(out, 8) || !is_aligned(scratch, 8) ||
      !is_aligned(block->wq, 4) || !is_aligned(block->bq, 4) || !is_aligned(block->wv, 4) ||
      !is_aligned(block->conv, 4) || !is_aligned(block->conv_bias, 4) ||
      !is_aligned(block->wz, 4) || !is_aligned(block->bz, 4) ||
      (hook != NULL && hook->call == NULL)) {
    return EMBBERT_ERROR_ARGUMENT;
  }
  if (!in_range(n, 1, EMBBERT_MAX_LENGTH) || (rows != n && rows != 1)) return EMBBERT_ERROR_LENGTH;
  if (scratch_size < embbert_block_scratch_size(block, n)) return EMBBERT_ERROR_SCRATCH;
  return embbert_block_rows(block, x, n, rows, out, scratch, scratch_size, hook);
}

embbert_status_t embbert_head(const embbert_head_t* head, const int8_t* x, int8_t* logits) {
  if (head == NULL || x == NULL || logits == NULL || !is_aligned(head->weight, 4) ||
      !is_aligned(head->bias, 4)) {
    return EMBBERT_ERROR_ARGUMENT;
  }
  EMBBERT_PROFILE_START(mark);
  const int8_t* weight = head->weight;  // (L, D)
  const int coded = head->weight_bits == 4;
  for (int32_t label = 0; label < head->labels; label++) {
    const int second = coded && label % 2 == 1;
    int32_t acc = head->bias[label];
    if (second) {
      for (int32_t i = 0; i < head->hidden; i++) acc += x[i] * embbert_second_code(weight[i]);
    } else if (coded) {
      for (int32_t i = 0; i < head->hidden; i++) acc += x[i] * embbert_first_code(weight[i]);
    } else {
      for (int32_t i = 0; i < head->hidden; i++) acc += x[i] * weight[i];
    }
    logits[label] =
        (int8_t)embbert_requantize(acc, head->shift, head->multipliers[label], head->zero);
    if (second || !coded) weight += head->hidden;
  }
  EMBBERT_PROFILE_STOP(mark, EMBBERT_STEP_HEAD);
  return EMBBERT_OK;
}

size_t embbert_buffer_size(const embbert_model_t* model, int32_t max_n) {
  return (size_t)max_n * (size_t)model->embed.hidden;
}

size_t embbert_scratch_size(const embbert_model_t* model, int32_t max_n) {
  size_t most = 0;
  for (int32_t i = 0; i < model->num_blocks; i++) {
    const size_t size = embbert_block_scratch_size(&model->blocks[i], max_n);
    if (size > most) most = size;
  }
  return most;
}

embbert_status_t embbert_infer(const embbert_model_t* model, const uint16_t* ids,
                               const uint8_t* segments, int32_t n, int8_t* buffer_a,
                               int8_t* buffer_b, void* scratch, size_t scratch_size, int8_t* logits,
                               const embbert_hook_t* hook) {
  if (model == NULL || model->blocks == NULL || (hook != NULL && hook->call == NULL)) {
    return EMBBERT_ERROR_ARGUMENT;
  }
  if (!in_range(model->num_blocks, 1, EMBBERT_MAX_BLOCKS) ||
      model->head.hidden != model->embed.hidden) {
    return EMBBERT_ERROR_MODEL;
  }
  for (int32_t i = 0; i < model->num_blocks; i++) {
    if (model->blocks[i].hidden != model->embed.hidden) return EMBBERT_ERROR_MODEL;
  }
  embbert_status_t status = embbert_embed(&model->embed, ids, segments, n, buffer_a);
  int8_t* x = buffer_a;
  int8_t* out = buffer_b;
  for (int32_t i = 0; i < model->num_blocks && status == EMBBERT_OK; i++) {
    if (embbert_hook_stops(hook)) return EMBBERT_ERROR_ABORTED;
    // The head reads row 0 alone.
    const int32_t rows = i == model->num_blocks - 1 ? 1 : n;
    status = embbert_block(&model->blocks[i], x, n, rows, out, scratch, scratch_size, hook);
    int8_t* const done = x;
    x = out;
    out = done;
  }
  if (status != EMBBERT_OK) return status;
  return embbert_head(&model->head, x, logits);
}

embbert_factor_t embbert_norm_factor(const embbert_block_t* block, uint32_t sum_of_squares) {
  const uint32_t v = sum_of_squares + (uint32_t)block->norm_epsilon;
  if (v == 0) return (embbert_factor_t){0, 0};
  // v << 2 * half = u in [2^30, 2^32); y = 2^31 * sqrt(2^30 / u), so 1/sqrt(v) = y * 2^(half - 46).
  const int32_t half = embbert_leading_zeros(v) / 2;
  const uint32_t u = v << (2 * half);
  uint64_t y = (uint64_t)embbert_rsqrt_table[(u >> 25) - 32] << 15;
  for (int step = 0; step < 2; step++) {          // Newton: y <- y * (3 - u*y^2) / 2
    const uint64_t square = (y * y) >> 32;        // 2^30 * y^2
    const uint64_t product = (u * square) >> 32;  // 2^28 * u * y^2
    y = (y * (((uint64_t)3 << 28) - product)) >> 29;
  }
  embbert_factor_t factor;
  factor.multiplier = (int32_t)((y * (uint64_t)block->norm_multiplier) >> 32);  // at most 2^30
  factor.shift = block->norm_exponent - 13 + half;
  if (factor.shift < 0) {
    factor.multiplier >>= -factor.shift;
    factor.shift = 0;
  }
  return factor;
}

uint32_t embbert_halve_weights(int16_t* weights, int32_t pieces, int32_t length, int32_t stride) {
  uint32_t sum = 0;
  for (int32_t piece = 0; piece < pieces; piece++) {
    for (int32_t i = 0; i < length; i++) {
      const int32_t half = (weights[i] + 1) >> 1;
      weights[i] = (int16_t)half;
      sum += (uint32_t)half;
    }
    weights += stride;
  }
  return sum;
}

embbert_factor_t embbert_mean_factor(uint32_t sum_of_weights) {
  // 1024 equal halved weights alone are 2^24, which this is as good as.
  if (sum_of_weights > 0xFFFFFFu) sum_of_weights = 0xFFFFFFu;
  const int32_t length = 32 - embbert_leading_zeros(sum_of_weights);  // 15..24
  // round(2^(16 + length) / sum) without 64-bit division: long division, 7 bits at a time, which a
  // remainder below 2^25 leaves room for.
  uint32_t quotient = 0x80000000u / sum_of_weights;
  uint32_t remainder = 0x80000000u % sum_of_weights;
  for (int32_t bits = length - 15; bits > 0;) {
    const int32_t step = bits < 7 ? bits : 7;
    remainder <<= step;
    quotient = (quotient << step) + remainder / sum_of_weights;
    remainder %= sum_of_weights;
    bits -= step;
  }
  // As adding sum / 2 before the division would.
  if (remainder >= sum_of_weights - sum_of_weights / 2) quotient++;
  return (embbert_factor_t){(int32_t)quotient, 24 - length};
}

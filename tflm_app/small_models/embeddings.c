// The mean of static embeddings of words and pairs of words, and a linear model: with f a text's
// features and n their number,
//   score[c] = sum_d head[c][d] * (sum_f rows[f][d]) + biases[c] * n
// which is the usual logits times n.

#include "small_model.h"

int32_t small_model_classify(features_t* features) {
  static int32_t sums[SMALL_MODEL_WIDTH];
  const int32_t width = SMALL_MODEL_WIDTH;
  for (int32_t d = 0; d < width; d++) sums[d] = 0;
  for (size_t i = 0; i < features->count; i++) {
    const int8_t* const row = small_model_rows + (size_t)features->index[i] * (size_t)width;
    for (int32_t d = 0; d < width; d++) sums[d] += row[d];
  }
  const int64_t count = features->count > 0 ? (int64_t)features->count : 1;
  int32_t best = 0;
  int64_t best_score = INT64_MIN;
  for (int32_t c = 0; c < SMALL_MODEL_LABELS; c++) {
    const int8_t* const head = small_model_head + (size_t)c * (size_t)width;
    int64_t score = small_model_biases[c] * count;
    for (int32_t d = 0; d < width; d++) score += (int64_t)head[d] * sums[d];
    if (score > best_score) {
      best_score = score;
      best = c;
    }
  }
  return best;
}

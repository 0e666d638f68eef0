// TF-IDF of words and pairs of words, and a linear model: with f a text's features,
//   score[c] = 256 * sum_f tf[f] * rows[f][c] + biases[c] * length
//   length = round_down(sqrt(sum_f (tf[f] * idf[f])^2))
// where a row is the linear model's weights times the feature's idf. Both sides of its comparison
// are the usual logits, times the text's length in the space of its features.

#include "small_model.h"

// Newton's, from above.
static uint32_t root_of(uint64_t square) {
  if (square == 0) return 0;
  uint64_t root = 1;
  while (root * root < square && root < (1ull << 31)) root <<= 1;
  for (;;) {
    const uint64_t next = (root + square / root) / 2;
    if (next >= root) return (uint32_t)root;
    root = next;
  }
}

int32_t small_model_classify(features_t* features) {
  static int32_t sums[SMALL_MODEL_LABELS];
  const int32_t labels = SMALL_MODEL_LABELS;
  for (int32_t c = 0; c < labels; c++) sums[c] = 0;
  features_sort(features);
  uint64_t square = 0;
  for (size_t i = 0; i < features->count;) {
    const uint16_t feature = features->index[i];
    int32_t frequency = 0;
    for (; i < features->count && features->index[i] == feature; i++) frequency++;
    const int8_t* const row = small_model_rows + (size_t)feature * (size_t)labels;
    for (int32_t c = 0; c < labels; c++) sums[c] += frequency * row[c];
    const uint32_t weight = (uint32_t)frequency * small_model_idf[feature];
    square += (uint64_t)weight * weight;
  }
  const uint32_t root = features->count > 0 ? root_of(square) : 1;
  int32_t best = 0;
  int64_t best_score = INT64_MIN;
  for (int32_t c = 0; c < labels; c++) {
    const int64_t score = 256 * (int64_t)sums[c] + (int64_t)small_model_biases[c] * root;
    if (score > best_score) {
      best_score = score;
      best = c;
    }
  }
  return best;
}

#include "metrics.h"

#include <string.h>

static const uint32_t kMillion = 1000000;

void metrics_begin(metrics_t* metrics, bool regression, int32_t labels, class_counts_t* classes) {
  *metrics = (metrics_t){.regression = regression, .labels = labels, .classes = classes};
  memset(classes, 0, (size_t)labels * sizeof(*classes));
}

// The sums about the means, corrected by each row, as Welford does it: sums of squares of all rows
// would lose what is left of them after the means' squares.
static void add_products(metrics_t* metrics, double logit, double score) {
  const double from_mean = logit - metrics->mean_logit;
  const double score_from_mean = score - metrics->mean_score;
  metrics->mean_logit += from_mean / metrics->rows;
  metrics->mean_score += score_from_mean / metrics->rows;
  metrics->logit_logit += from_mean * (logit - metrics->mean_logit);
  metrics->logit_score += from_mean * (score - metrics->mean_score);
  metrics->score_score += score_from_mean * (score - metrics->mean_score);
}

static void add(metrics_t* metrics, const embbert_result_t* result) {
  metrics->rows++;
  metrics->unsure += !result->sure;
}

void metrics_add_class(metrics_t* metrics, const embbert_result_t* result, int32_t label) {
  add(metrics, result);
  const bool right = result->label == label;
  metrics->right += right;
  metrics->classes[label].right += right;
  metrics->classes[label].named++;
  metrics->classes[result->label].named++;
}

void metrics_add_score(metrics_t* metrics, const embbert_result_t* result, double score) {
  add(metrics, result);
  const double difference = (double)result->score - 1000 * score;
  metrics->error += difference < 0 ? -difference : difference;
  add_products(metrics, result->logits[0], score);
}

uint32_t metrics_accuracy(const metrics_t* metrics) {
  const uint64_t rows = metrics->rows;
  return rows == 0 ? 0 : (uint32_t)((1ull * kMillion * metrics->right + rows / 2) / rows);
}

uint32_t metrics_macro_f1(const metrics_t* metrics) {
  static const uint64_t kBillion = 1000000000;
  uint64_t sum = 0;
  for (int32_t i = 0; i < metrics->labels; i++) {
    const class_counts_t* const counts = &metrics->classes[i];
    if (counts->named > 0) sum += 2 * kBillion * counts->right / counts->named;
  }
  const uint64_t parts = 1000ull * (uint32_t)metrics->labels;
  return (uint32_t)((sum + parts / 2) / parts);
}

// Newton's iterations from above, twice as near each time; 1e40 takes 70 of them.
static double square_root(double value) {
  double root = value > 1 ? value : 1;
  for (int i = 0; i < 100; i++) root = (root + value / root) / 2;
  return root;
}

int32_t metrics_pearson(const metrics_t* metrics) {
  const double logits = metrics->logit_logit;
  const double scores = metrics->score_score;
  if (!(logits > 0) || !(scores > 0)) return 0;
  const double r = metrics->logit_score / (square_root(logits) * square_root(scores));
  return (int32_t)(r * kMillion + (r < 0 ? -0.5 : 0.5));
}

uint64_t metrics_mean_absolute_error(const metrics_t* metrics) {
  return metrics->rows == 0 ? 0 : (uint64_t)(metrics->error / metrics->rows + 0.5);
}

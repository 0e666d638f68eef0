// How well a model answers labelled rows: accuracy and macro F1 of a classifier, Pearson's
// correlation and the mean absolute error of a regression. Counted row by row, without a list of
// them; Spearman's correlation, which needs one, is left to who has the logits.

#ifndef EMBBERT_TFLM_APP_APP_METRICS_H_
#define EMBBERT_TFLM_APP_APP_METRICS_H_

#include <stdbool.h>
#include <stdint.h>

#include "embbert.h"

// Of one class.
typedef struct {
  uint32_t right;  // rows of this label that got this answer
  uint32_t named;  // rows of this label, and answers of this label: F1 = 2 * right / named
} class_counts_t;

typedef struct {
  bool regression;
  int32_t labels;
  class_counts_t* classes;  // (labels)
  uint32_t rows;
  uint32_t right;
  uint32_t unsure;
  double error;  // regression: sum of absolute differences in 1/1000
  // Regression: means, and sums of products of distances from them, of the logit and of the score.
  double mean_logit;
  double mean_score;
  double logit_logit;
  double logit_score;
  double score_score;
} metrics_t;

// `classes`: memory for (labels) counts.
void metrics_begin(metrics_t* metrics, bool regression, int32_t labels, class_counts_t* classes);

// Adds a row of the label with this index.
void metrics_add_class(metrics_t* metrics, const embbert_result_t* result, int32_t label);

// Adds a row of this score.
void metrics_add_score(metrics_t* metrics, const embbert_result_t* result, double score);

// In parts of a million; 0 without rows.
uint32_t metrics_accuracy(const metrics_t* metrics);
uint32_t metrics_macro_f1(const metrics_t* metrics);

// In parts of a million, -1,000,000..1,000,000; 0 where logits or scores are all the same.
int32_t metrics_pearson(const metrics_t* metrics);

// In 1/1000; 0 without rows.
uint64_t metrics_mean_absolute_error(const metrics_t* metrics);

#endif  // EMBBERT_TFLM_APP_APP_METRICS_H_

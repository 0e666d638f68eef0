// A small text classifier: a generated file has its numbers, tfidf.c or embeddings.c its
// arithmetic.

#ifndef EMBBERT_TFLM_APP_SMALL_MODELS_SMALL_MODEL_H_
#define EMBBERT_TFLM_APP_SMALL_MODELS_SMALL_MODEL_H_

#include <stdint.h>

#include "features.h"

// The compiler is told the sizes: SMALL_MODEL_FEATURES, SMALL_MODEL_LABELS and SMALL_MODEL_WIDTH
// (numbers of a feature's row: one a label for TF-IDF, else the embedding's).
extern const uint32_t small_model_vocabulary[];  // (features)
extern const int8_t small_model_rows[];          // (features, width)
extern const uint8_t small_model_idf[];          // TF-IDF: (features)
extern const int8_t small_model_head[];          // embeddings: (labels, width)
extern const int32_t small_model_biases[];       // (labels)

// Returns the label of a text, the first of the best. Sorts its features.
int32_t small_model_classify(features_t* features);

#endif  // EMBBERT_TFLM_APP_SMALL_MODELS_SMALL_MODEL_H_

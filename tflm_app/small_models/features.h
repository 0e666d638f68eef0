// What a text is to the small models: those of its words, and of the pairs of words that stand
// beside each other, that a vocabulary has. The models are measured beside EmbBERT, so that nobody
// takes a transformer where less would do; converters/benchmarks/small_models has the same in
// Python.
//
// A word is a run of ASCII letters, digits and bytes of 128 and above (UTF-8); ASCII is lowered.
// Its hash is FNV-1a's of 32 bits; a pair's goes on from the first word's with a blank and the
// second word. The vocabulary is the sorted hashes.

#ifndef EMBBERT_TFLM_APP_SMALL_MODELS_FEATURES_H_
#define EMBBERT_TFLM_APP_SMALL_MODELS_FEATURES_H_

#include <stddef.h>
#include <stdint.h>

enum { kFeaturesMostWords = 512 };

typedef struct {
  uint16_t index[2 * kFeaturesMostWords];  // in the vocabulary, as they come
  size_t count;
} features_t;

// Reads the first kFeaturesMostWords words of a text. `vocabulary` has `size` hashes, 1 to 65,536.
void features_read(const char* text, size_t length, const uint32_t* vocabulary, size_t size,
                   features_t* features);

// Puts equal features beside each other, in ascending order; in place.
void features_sort(features_t* features);

#endif  // EMBBERT_TFLM_APP_SMALL_MODELS_FEATURES_H_

#include "features.h"

#include <stdbool.h>

static const uint32_t kBasis = 2166136261u;
static const uint32_t kPrime = 16777619u;

static uint32_t hash_byte(uint32_t hash, uint8_t byte) { return (hash ^ byte) * kPrime; }

// Takes a feature that the vocabulary has.
static void take(features_t* features, uint32_t hash, const uint32_t* vocabulary, size_t size) {
  size_t low = 0;
  for (size_t count = size; count > 1;) {  // the last hash that is not above
    const size_t half = count / 2;
    if (vocabulary[low + half] <= hash) low += half;
    count -= half;
  }
  if (vocabulary[low] == hash) features->index[features->count++] = (uint16_t)low;
}

// The byte in lower case, or 0 for one that no word has.
static uint8_t letter(uint8_t byte) {
  if (byte >= 'A' && byte <= 'Z') return (uint8_t)(byte + 'a' - 'A');
  const bool in_word = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte >= 128;
  return in_word ? byte : 0;
}

void features_read(const char* text, size_t length, const uint32_t* vocabulary, size_t size,
                   features_t* features) {
  features->count = 0;
  uint32_t last = 0;  // hash of the word before, with a blank behind it
  size_t words = 0;
  for (size_t i = 0; i < length && words < kFeaturesMostWords;) {
    uint8_t byte = letter((uint8_t)text[i]);
    if (byte == 0) {
      i++;
      continue;
    }
    uint32_t word = kBasis;
    uint32_t pair = last;
    while (byte != 0) {
      word = hash_byte(word, byte);
      pair = hash_byte(pair, byte);
      byte = ++i < length ? letter((uint8_t)text[i]) : 0;
    }
    take(features, word, vocabulary, size);
    if (words > 0) take(features, pair, vocabulary, size);
    last = hash_byte(word, ' ');
    words++;
  }
}

// Shell's, with Ciura's gaps: no recursion, no memory, and a short text is nearly free.
void features_sort(features_t* features) {
  static const uint16_t kGaps[] = {701, 301, 132, 57, 23, 10, 4, 1};
  uint16_t* const at = features->index;
  for (size_t g = 0; g < sizeof(kGaps) / sizeof(kGaps[0]); g++) {
    const size_t gap = kGaps[g];
    for (size_t i = gap; i < features->count; i++) {
      const uint16_t moving = at[i];
      size_t j = i;
      for (; j >= gap && at[j - gap] > moving; j -= gap) at[j] = at[j - gap];
      at[j] = moving;
    }
  }
}

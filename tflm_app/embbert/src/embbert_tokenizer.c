#include "embbert_tokenizer.h"

#include <string.h>

// ---------------------------------------------------------------------------------------------
// The blob. converters/firmware/tokenizer_tables.py writes it and documents every field; keep both
// in step. Little-endian; every table starts at a multiple of 4.

enum {
  kVersion = 1,
  kHeaderBytes = 160,
  kMaxVocabulary = 0x7F00,
  kNone = 0xFFFF,

  // Symbols: a character after normalization. Bit 15: a word character; below: its token id.
  kWordBit = 0x8000,
  kIdMask = 0x7FFF,
  kSpace = 0x7FFF,     // Ends a word.
  kRemoved = 0x7FFE,   // Only in the ASCII table: this character vanishes.
  kTryAdded = 0x7FFD,  // Only in the ASCII table: an added token such as "[SEP]" may start here.
  kEnd = 0x7FFC,       // Not in the blob: the text is over.
  kAdded = 0x7FFB,     // Not in the blob: an added token, whose id is in scanner_t.added.

  kNumClasses = 15,  // Expansions that a class names; class 15 is the exceptions' list.
};

// Index into embbert_tokenizer_t.section.
enum {
  kAscii,       // uint16 (128): symbol of an ASCII character
  kTop,         // uint8 (272): row of kMiddle for 4,096 code points
  kMiddle,      // uint8 (rows, 16): page for 256 code points
  kPages,       // uint16 (pages + 1): where a page starts in kRuns
  kRuns,        // uint16: class << 8 | low byte of the last code point of a run of one class
  kExceptions,  // uint32 (num_exceptions): code points, ascending
  kStarts,      // uint16 (15 + num_exceptions + 1): where an expansion starts in kSymbols
  kSymbols,     // uint16 (num_expansions): symbols
  kPairs,       // id_bits + id_bits bits each, (num_merges): left and right token, by rank
  kSeeds,       // uint16 (num_buckets): perfect hash, first level
  kSlots,       // uint16 (num_slots): perfect hash, second level: index of a merge
  kAddedList,   // (num_added) records: uint16 id, uint8 length, bytes; longest first
  kSections,
};

static uint32_t read32(const uint8_t* p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && defined(__GNUC__)
// One load instruction: the tables are aligned, which init checks.
static inline uint16_t table16(const uint8_t* table, uint32_t index) {
  uint16_t value;
  memcpy(&value, __builtin_assume_aligned(table + 2 * index, 2), sizeof(value));
  return value;
}
static inline uint32_t table32(const uint8_t* table, uint32_t index) {
  uint32_t value;
  memcpy(&value, __builtin_assume_aligned(table + 4 * index, 4), sizeof(value));
  return value;
}
#else
static inline uint16_t table16(const uint8_t* table, uint32_t index) {
  return (uint16_t)(table[2 * index] | table[2 * index + 1] << 8);
}
static inline uint32_t table32(const uint8_t* table, uint32_t index) {
  return read32(table + 4 * index);
}
#endif

// Anywhere: one load where the processor allows it, bytes on a Cortex-M0+.
static inline uint32_t unaligned32(const uint8_t* p) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint32_t value;
  memcpy(&value, p, sizeof(value));
  return value;
#else
  return read32(p);
#endif
}

static inline const uint8_t* section(const embbert_tokenizer_t* t, int index) {
  return t->blob + t->section[index];
}

// The parts of a merge: left in the low id_bits bits, right above. A part has at most 13 bits or
// exactly 16, so a pair never spans more than four bytes.
static inline uint32_t pair_at(const embbert_tokenizer_t* t, uint32_t merge) {
  const uint32_t bit = 2u * t->id_bits * merge;
  return unaligned32(section(t, kPairs) + (bit >> 3)) >> (bit & 7) & t->pair_mask;
}

static inline uint32_t left_part(const embbert_tokenizer_t* t, uint32_t id) {
  return pair_at(t, id - t->first_merge) & (t->pair_mask >> t->id_bits);
}

static inline uint32_t right_part(const embbert_tokenizer_t* t, uint32_t id) {
  return pair_at(t, id - t->first_merge) >> t->id_bits;
}

int embbert_tokenizer_init(embbert_tokenizer_t* tokenizer, const uint8_t* blob, size_t size) {
  if (tokenizer == NULL || blob == NULL) return EMBBERT_TOKENIZER_ERROR_ARGUMENT;
  memset(tokenizer, 0, sizeof(*tokenizer));
  if (((uintptr_t)blob & 3) != 0) return EMBBERT_TOKENIZER_ERROR_ALIGNMENT;
  if (size < kHeaderBytes) return EMBBERT_TOKENIZER_ERROR_TRUNCATED;
  if (memcmp(blob, "EBTK", 4) != 0) return EMBBERT_TOKENIZER_ERROR_MAGIC;
  if (table16(blob, 2) != kVersion) return EMBBERT_TOKENIZER_ERROR_VERSION;
  if (table16(blob, 3) != kHeaderBytes) return EMBBERT_TOKENIZER_ERROR_CORRUPT;
  const uint32_t total = read32(blob + 8);
  if (total > size) return EMBBERT_TOKENIZER_ERROR_TRUNCATED;

  embbert_tokenizer_t t;
  memset(&t, 0, sizeof(t));
  t.blob = blob;
  t.vocab_size = table16(blob, 6);
  t.first_merge = table16(blob, 7);
  t.num_merges = table16(blob, 8);
  t.num_buckets = table16(blob, 9);
  t.num_slots = table16(blob, 10);
  t.num_exceptions = table16(blob, 11);
  t.num_expansions = table16(blob, 12);
  t.num_added = table16(blob, 13);
  t.max_token_length = blob[28];
  t.max_suffixes = blob[29];
  t.fuse_unknown = blob[30];
  t.id_bits = blob[31];
  if (t.id_bits < 1 || (t.id_bits > 13 && t.id_bits != 16)) return EMBBERT_TOKENIZER_ERROR_CORRUPT;
  t.pair_mask = t.id_bits == 16 ? 0xFFFFFFFFu : (1u << 2 * t.id_bits) - 1;
  memcpy(t.unicode_version, blob + 32, 3);

  const uint32_t middle_rows = table16(blob, 18);
  const uint32_t num_pages = table16(blob, 19);
  const uint32_t num_runs = table16(blob, 20);
  const uint32_t added_bytes = table16(blob, 21);
  const uint32_t bytes[kSections] = {
      [kAscii] = 2 * 128,
      [kTop] = 272,
      [kMiddle] = 16 * middle_rows,
      [kPages] = 2 * (num_pages + 1),
      [kRuns] = 2 * num_runs,
      [kExceptions] = 4 * (uint32_t)t.num_exceptions,
      [kStarts] = 2 * (kNumClasses + (uint32_t)t.num_exceptions + 1),
      [kSymbols] = 2 * (uint32_t)t.num_expansions,
      [kPairs] = (2u * t.id_bits * t.num_merges + 7) / 8 + 3,  // Read four bytes at a time.
      [kSeeds] = 2 * (uint32_t)t.num_buckets,
      [kSlots] = 2 * (uint32_t)t.num_slots,
      [kAddedList] = added_bytes,
  };
  for (int i = 0; i < kSections; ++i) {
    const uint32_t offset = read32(blob + 44 + 4 * i);
    if ((offset & 3) != 0 || offset > total || bytes[i] > total - offset) {
      return EMBBERT_TOKENIZER_ERROR_CORRUPT;
    }
    t.section[i] = offset;
  }

  // From here on, every index that encode can meet is checked against the table it leads to.
  int bad = t.vocab_size <= EMBBERT_TOKENIZER_SEP || t.vocab_size > kMaxVocabulary ||
            (uint32_t)t.first_merge + t.num_merges != t.vocab_size || t.max_token_length < 1 ||
            t.max_token_length > EMBBERT_TOKENIZER_MAX_TOKEN_LENGTH || t.max_suffixes < 1 ||
            (t.max_token_length + 1) * t.max_suffixes > EMBBERT_TOKENIZER_MAX_CANDIDATES ||
            t.num_merges == 0 || t.num_buckets == 0 || t.num_slots == 0;

  const uint8_t* ascii = section(&t, kAscii);
  for (uint32_t i = 0; i < 128; ++i) {
    const uint16_t symbol = table16(ascii, i);
    bad |= symbol != kSpace && symbol != kRemoved && symbol != kTryAdded &&
           (symbol & kIdMask) >= t.vocab_size;
  }
  for (uint32_t i = 0; i < 272; ++i) bad |= section(&t, kTop)[i] >= middle_rows;
  for (uint32_t i = 0; i < 16 * middle_rows; ++i) bad |= section(&t, kMiddle)[i] >= num_pages;
  const uint8_t* pages = section(&t, kPages);
  bad |= table16(pages, num_pages) > num_runs;
  for (uint32_t i = 0; i < num_pages; ++i) {
    bad |= table16(pages, i) >= table16(pages, i + 1);  // No page is empty.
  }
  for (uint32_t i = 0; i < num_runs; ++i) {
    bad |= table16(section(&t, kRuns), i) >> 8 > kNumClasses;
  }
  const uint8_t* starts = section(&t, kStarts);
  bad |= table16(starts, kNumClasses + t.num_exceptions) > t.num_expansions;
  for (uint32_t i = 0; i < kNumClasses + (uint32_t)t.num_exceptions; ++i) {
    bad |= table16(starts, i) > table16(starts, i + 1);
  }
  for (uint32_t i = 0; i < t.num_expansions; ++i) {
    const uint16_t symbol = table16(section(&t, kSymbols), i);
    bad |= symbol != kSpace && (symbol & kIdMask) >= t.vocab_size;
  }
  for (uint32_t id = t.first_merge; id < (uint32_t)t.first_merge + t.num_merges; ++id) {
    bad |= left_part(&t, id) >= id || right_part(&t, id) >= id;  // So taking a token apart ends.
  }
  for (uint32_t i = 0; i < t.num_slots; ++i) {
    const uint16_t merge = table16(section(&t, kSlots), i);
    bad |= merge >= t.num_merges;
  }
  uint32_t at = 0;
  for (uint32_t i = 0; i < t.num_added && !bad; ++i) {
    const uint8_t* record = section(&t, kAddedList) + at;
    if (added_bytes - at < 3 || added_bytes - at - 3 < record[2] || record[2] == 0) {
      bad = 1;
      break;
    }
    bad |= record[0] + 256 * record[1] >= t.vocab_size;
    at += 3 + (uint32_t)record[2];
  }
  if (bad) return EMBBERT_TOKENIZER_ERROR_CORRUPT;
  *tokenizer = t;
  return EMBBERT_TOKENIZER_OK;
}

// ---------------------------------------------------------------------------------------------
// Text to symbols: UTF-8, added tokens, normalization.

typedef struct {
  const uint8_t* text;  // Next byte.
  const uint8_t* end;
  const uint8_t* expansion;  // Symbols of the last character that are still to be delivered.
  uint16_t expansion_left;
  uint16_t jamo[2];  // Characters of a Hangul syllable that are still to be looked up, or 0.
  uint16_t added;    // Id that goes with kAdded.
} scanner_t;

static void scanner_start(scanner_t* s, const char* text, size_t length) {
  memset(s, 0, sizeof(*s));
  s->text = (const uint8_t*)(length > 0 ? text : "");  // An empty text may be NULL.
  s->end = s->text + length;
}

// Reads one character that is not ASCII. Malformed input gives U+FFFD and is skipped up to the
// first byte that cannot continue it, as Unicode's "maximal subpart" rule and Python's decoder have
// it.
static uint32_t read_utf8(scanner_t* s) {
  const uint8_t* p = s->text;
  const uint32_t lead = *p++;
  uint32_t code;
  uint32_t low = 0x80, high = 0xBF;  // Range of the second byte.
  int more;
  if (lead >= 0xC2 && lead <= 0xDF) {
    code = lead & 0x1F;
    more = 1;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    code = lead & 0x0F;
    more = 2;
    if (lead == 0xE0) low = 0xA0;   // Overlong.
    if (lead == 0xED) high = 0x9F;  // Surrogates.
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    code = lead & 0x07;
    more = 3;
    if (lead == 0xF0) low = 0x90;   // Overlong.
    if (lead == 0xF4) high = 0x8F;  // Above U+10FFFF.
  } else {
    s->text = p;
    return 0xFFFD;
  }
  for (; more > 0; --more) {
    if (p == s->end || *p < low || *p > high) {
      s->text = p;
      return 0xFFFD;
    }
    code = code << 6 | (*p++ & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  s->text = p;
  return code;
}

// Points the scanner at the symbols of one character.
static void expand(const embbert_tokenizer_t* t, scanner_t* s, uint32_t code) {
  const uint32_t middle = section(t, kTop)[code >> 12];
  const uint32_t page = section(t, kMiddle)[16 * middle + (code >> 8 & 15)];
  const uint8_t* runs = section(t, kRuns);
  uint32_t first = table16(section(t, kPages), page);
  uint32_t last = table16(section(t, kPages), page + 1) - 1u;
  while (first < last) {
    const uint32_t probe = (first + last) / 2;
    if ((table16(runs, probe) & 0xFF) < (code & 0xFF)) {
      first = probe + 1;
    } else {
      last = probe;
    }
  }
  uint32_t row = table16(runs, first) >> 8;
  if (row == kNumClasses) {
    // The vocabulary's own characters and those that normalize to them.
    const uint8_t* keys = section(t, kExceptions);
    uint32_t low = 0, high = t->num_exceptions;
    while (low < high) {
      const uint32_t middle_key = (low + high) / 2;
      if (table32(keys, middle_key) < code) {
        low = middle_key + 1;
      } else {
        high = middle_key;
      }
    }
    if (low == t->num_exceptions || table32(keys, low) != code) return;  // Not in a sound blob.
    row = kNumClasses + low;
  }
  const uint32_t start = table16(section(t, kStarts), row);
  s->expansion = section(t, kSymbols) + 2 * start;
  s->expansion_left = (uint16_t)(table16(section(t, kStarts), row + 1) - start);
}

// Splits a Hangul syllable as NFD does (The Unicode Standard, 3.12) and expands its first jamo.
static void expand_hangul(const embbert_tokenizer_t* t, scanner_t* s, uint32_t index) {
  const uint32_t trailing = index % 28;
  s->jamo[0] = (uint16_t)(0x1161 + index / 28 % 21);
  s->jamo[1] = (uint16_t)(trailing != 0 ? 0x11A7 + trailing : 0);
  expand(t, s, 0x1100 + index / (21 * 28));
}

// Whether an added token starts at the next byte; then steps over it.
static int match_added(const embbert_tokenizer_t* t, scanner_t* s) {
  const uint8_t* record = section(t, kAddedList);
  const size_t left = (size_t)(s->end - s->text);
  for (uint32_t i = 0; i < t->num_added; ++i) {
    if (record[2] <= left && memcmp(s->text, record + 3, record[2]) == 0) {
      s->added = (uint16_t)(record[0] | record[1] << 8);
      s->text += record[2];
      return 1;
    }
    record += 3 + record[2];
  }
  return 0;
}

// The part of next_symbol that is not plain ASCII.
static uint16_t next_symbol_slow(const embbert_tokenizer_t* t, scanner_t* s) {
  for (;;) {
    if (s->expansion_left > 0) {
      const uint16_t symbol = table16(s->expansion, 0);
      s->expansion += 2;
      --s->expansion_left;
      return symbol;
    }
    if (s->jamo[0] != 0) {
      const uint32_t code = s->jamo[0];
      s->jamo[0] = s->jamo[1];
      s->jamo[1] = 0;
      expand(t, s, code);
      continue;
    }
    if (s->text == s->end) return kEnd;
    uint32_t code = *s->text;
    if (code < 0x80) {
      const uint16_t symbol = table16(section(t, kAscii), code);
      if (symbol == kTryAdded && match_added(t, s)) return kAdded;
      ++s->text;
      if (symbol == kTryAdded) {
        expand(t, s, code);
      } else if (symbol != kRemoved) {
        return symbol;
      }
      continue;
    }
    code = read_utf8(s);
    if (code - 0xAC00 < 11172) {
      expand_hangul(t, s, code - 0xAC00);
    } else {
      expand(t, s, code);
    }
  }
}

static inline uint16_t next_symbol(const embbert_tokenizer_t* t, scanner_t* s) {
  if ((s->expansion_left | s->jamo[0]) == 0 && s->text != s->end && *s->text < 0x80) {
    const uint16_t symbol = table16(section(t, kAscii), *s->text);
    if (symbol != kRemoved && symbol != kTryAdded) {
      ++s->text;
      return symbol;
    }
  }
  return next_symbol_slow(t, s);
}

// ---------------------------------------------------------------------------------------------
// Merges.

// Whether a symbol cannot continue a run of known characters with the word bit `word`.
static inline int ends_run(uint16_t symbol, uint32_t word) {
  return (symbol & kWordBit) != word || (symbol & kIdMask) == EMBBERT_TOKENIZER_UNK ||
         (symbol >= kAdded && symbol <= kSpace);
}

// Returns the token that `left` and `right` merge to, or kNone. A lower id merges earlier.
static inline uint32_t merged(const embbert_tokenizer_t* t, uint32_t left, uint32_t right) {
  // A perfect hash: every known pair has a slot of its own, so one comparison decides.
  const uint32_t key = left | right << t->id_bits;
  const uint32_t bucket = ((key * 0x9E3779B1u) >> 16) * t->num_buckets >> 16;
  const uint32_t seed = table16(section(t, kSeeds), bucket);
  uint32_t hash = (key ^ seed * 0x85EBCA6Bu) * 0xC2B2AE35u;
  hash ^= hash >> 15;
  const uint32_t slot = ((hash * 0x27D4EB2Fu) >> 16) * t->num_slots >> 16;
  const uint32_t merge = table16(section(t, kSlots), slot);
  return pair_at(t, merge) == key ? t->first_merge + merge : kNone;
}

// Where ids go. Counts on beyond `room` so that a pair's truncation can be computed.
typedef struct {
  uint16_t* ids;
  size_t room;
  size_t count;
  size_t limit;  // Stop once count reaches it.
} sink_t;

static inline void emit(sink_t* out, uint32_t id) {
  if (out->count < out->room) out->ids[out->count] = (uint16_t)id;
  ++out->count;
}

// A run: the known characters of one word between unknown ones. Merges never leave it.
//
// Short runs (nearly all) are merged as the definition says: the pair of lowest rank, of equal ones
// the leftmost, until none is left.
typedef struct {
  uint16_t token[EMBBERT_TOKENIZER_SHORT_RUN];
  uint16_t merge[EMBBERT_TOKENIZER_SHORT_RUN];  // What token i and i + 1 merge to, or kNone.
} short_run_t;

static void merge_short_run(const embbert_tokenizer_t* t, short_run_t* run, uint32_t n,
                            sink_t* out) {
  while (n > 1) {
    uint32_t best = kNone;
    uint32_t at = 0;
    for (uint32_t i = 0; i + 1 < n; ++i) {
      if (run->merge[i] < best) {
        best = run->merge[i];
        at = i;
      }
    }
    if (best == kNone) break;
    --n;
    run->token[at] = (uint16_t)best;
    for (uint32_t i = at + 1; i < n; ++i) {
      run->token[i] = run->token[i + 1];
      run->merge[i - 1] = run->merge[i];
    }
    if (at > 0) run->merge[at - 1] = (uint16_t)merged(t, run->token[at - 1], best);
    if (at + 1 < n) run->merge[at] = (uint16_t)merged(t, best, run->token[at + 1]);
  }
  for (uint32_t i = 0; i < n; ++i) emit(out, run->token[i]);
}

// Long runs are encoded in constant memory. Two facts carry it (for merges whose rank grows with
// the token they make, and tokens that encode to themselves; the generator checks both):
//   (1) A sequence of tokens is the encoding of its text exactly when every two neighbours are,
//       so the beginning of an encoding, up to any of its token boundaries, is an encoding too.
//   (2) Hence the encoding of the text up to position i ends with the one token t that ends there
//       and that may follow the last token of the encoding up to position i - length(t).
// So the last token at each position follows from those at the max_token_length positions before
// it. The tokens of the whole run are found backwards from its end; and since one of the last
// max_token_length positions is a boundary of the whole, whatever the paths back from all of them
// share is certain before the end is seen.
typedef struct {
  // Last token of the encoding up to a position, as a ring; length 0: no path from the base.
  uint16_t last[EMBBERT_TOKENIZER_WINDOW];
  uint8_t last_length[EMBBERT_TOKENIZER_WINDOW];
  // Tokens that end at each of the newest max_token_length + 1 positions, by rising length.
  uint16_t candidate[EMBBERT_TOKENIZER_MAX_CANDIDATES];
  uint8_t candidate_length[EMBBERT_TOKENIZER_MAX_CANDIDATES];
  uint8_t num_candidates[EMBBERT_TOKENIZER_MAX_TOKEN_LENGTH + 1];
  // First token on the path from the base, once the base has left the ring.
  uint8_t first_length[EMBBERT_TOKENIZER_MAX_TOKEN_LENGTH + 1];
  uint16_t first[EMBBERT_TOKENIZER_MAX_TOKEN_LENGTH + 1];
} long_run_t;

_Static_assert(sizeof(long_run_t) <= sizeof(embbert_tokenizer_scratch_t), "scratch is too small");
_Static_assert(sizeof(short_run_t) <= sizeof(embbert_tokenizer_scratch_t), "scratch is too small");
_Static_assert((EMBBERT_TOKENIZER_WINDOW & (EMBBERT_TOKENIZER_WINDOW - 1)) == 0, "power of two");
_Static_assert(EMBBERT_TOKENIZER_WINDOW > EMBBERT_TOKENIZER_MAX_TOKEN_LENGTH, "window too small");

static inline uint32_t ring(uint32_t position) { return position & (EMBBERT_TOKENIZER_WINDOW - 1); }

// Whether `left` followed by `right` is the encoding of their joint text. Undoes the merges of both
// from the last one on, looking for one across the boundary that would have come first.
static int may_follow(const embbert_tokenizer_t* t, uint32_t left, uint32_t right) {
  uint32_t limit = kNone;
  for (;;) {
    if (merged(t, left, right) < limit) return 0;
    const int left_splits = left >= t->first_merge;
    const int right_splits = right >= t->first_merge;
    // An id is a rank: the younger of the two was made last. Of equals the left one is made first.
    if (left_splits && (left > right || !right_splits)) {
      limit = left;
      left = right_part(t, left);
    } else if (right_splits) {
      limit = right + 1;
      right = left_part(t, right);
    } else {
      return 1;
    }
  }
}

// Adds all tokens that end at `position` (1-based) given the character that does.
static int add_candidates(const embbert_tokenizer_t* t, long_run_t* run, uint32_t position,
                          uint32_t character) {
  const uint32_t rows = (uint32_t)t->max_token_length + 1;
  const uint32_t row = position % rows;
  uint16_t* ids = run->candidate + row * t->max_suffixes;
  uint8_t* lengths = run->candidate_length + row * t->max_suffixes;
  uint32_t n = 1;
  ids[0] = (uint16_t)character;
  lengths[0] = 1;
  for (uint32_t r = 0; r < n;
       ++r) {  // n grows: a longer token has a shorter one as its right part.
    if (lengths[r] >= position) break;
    const uint32_t before = (position - lengths[r]) % rows;
    const uint32_t base = before * t->max_suffixes;
    for (uint32_t l = 0; l < run->num_candidates[before]; ++l) {
      const uint32_t length = (uint32_t)run->candidate_length[base + l] + lengths[r];
      if (length > t->max_token_length) break;
      const uint32_t id = merged(t, run->candidate[base + l], ids[r]);
      if (id == kNone) continue;
      if (n == t->max_suffixes) return EMBBERT_TOKENIZER_ERROR_CORRUPT;
      uint32_t i = n++;
      for (; i > r + 1 && lengths[i - 1] > length; --i) {
        ids[i] = ids[i - 1];
        lengths[i] = lengths[i - 1];
      }
      ids[i] = (uint16_t)id;
      lengths[i] = (uint8_t)length;
    }
  }
  run->num_candidates[row] = (uint8_t)n;
  return EMBBERT_TOKENIZER_OK;
}

// Emits the tokens between two positions of one path.
static void emit_path(const long_run_t* run, uint32_t from, uint32_t to, sink_t* out) {
  size_t n = 0;
  for (uint32_t i = to; i != from; i -= run->last_length[ring(i)]) ++n;
  size_t index = out->count + n;
  out->count = index;
  for (uint32_t i = to; i != from; i -= run->last_length[ring(i)]) {
    --index;
    if (index < out->room) out->ids[index] = run->last[ring(i)];
  }
}

// The last position that the paths to all of the newest max_token_length positions share.
static uint32_t common_position(const embbert_tokenizer_t* t, const long_run_t* run,
                                uint32_t position) {
  uint32_t common = 0;
  int found = 0;
  for (uint32_t back = 0; back < t->max_token_length && back < position; ++back) {
    uint32_t other = position - back;
    if (run->last_length[ring(other)] == 0) continue;
    if (!found) common = other;
    found = 1;
    while (common != other) {
      if (common > other) {
        common -= run->last_length[ring(common)];
      } else {
        other -= run->last_length[ring(other)];
      }
    }
  }
  return common;
}

// Finds the last token of the encoding up to `position`, among the candidates there.
static void extend_paths(const embbert_tokenizer_t* t, long_run_t* run, uint32_t position,
                         uint32_t base, uint32_t previous, int first_only) {
  const uint32_t rows = (uint32_t)t->max_token_length + 1;
  const uint32_t at = position % rows;
  run->last_length[ring(position)] = 0;
  for (uint32_t k = run->num_candidates[at]; k-- > 0;) {
    const uint32_t id = run->candidate[at * t->max_suffixes + k];
    const uint8_t length = run->candidate_length[at * t->max_suffixes + k];
    const uint32_t from = position - length;
    if (length > position || from < base) continue;
    if (from > 0 && run->last_length[ring(from)] == 0) continue;
    const uint32_t before = from > 0 ? run->last[ring(from)] : previous;
    if (before != kNone && !may_follow(t, before, id)) continue;
    run->last[ring(position)] = (uint16_t)id;
    run->last_length[ring(position)] = length;
    if (first_only) {
      run->first[at] = run->first[from % rows];
      run->first_length[at] = run->first_length[from % rows];
    }
    return;
  }
}

// Fills run->first for the newest positions while the ring still reaches back to position 0.
static void find_first(const embbert_tokenizer_t* t, long_run_t* run, uint32_t position) {
  const uint32_t rows = (uint32_t)t->max_token_length + 1;
  for (uint32_t back = 0; back < t->max_token_length && back < position; ++back) {
    uint32_t i = position - back;
    if (run->last_length[ring(i)] == 0) continue;
    while (i > run->last_length[ring(i)]) i -= run->last_length[ring(i)];
    run->first[(position - back) % rows] = run->last[ring(i)];
    run->first_length[(position - back) % rows] = run->last_length[ring(i)];
  }
}

// Sets *agreed to whether all paths to the newest positions begin alike. Returns 0 if none is left.
static int same_first(const embbert_tokenizer_t* t, const long_run_t* run, uint32_t position,
                      uint32_t* agreed) {
  const uint32_t rows = (uint32_t)t->max_token_length + 1;
  uint32_t first = kNone;
  *agreed = 1;
  for (uint32_t back = 0; back < t->max_token_length; ++back) {
    if (run->last_length[ring(position - back)] == 0) continue;
    const uint32_t token = run->first[(position - back) % rows];
    if (first != kNone && token != first) *agreed = 0;
    first = token;
  }
  return first != kNone;
}

// Encodes the run that starts at `start`, whose first symbol has the word bit `word`. On return
// *scanner is just behind the run, unless `out` is full.
static int merge_long_run(const embbert_tokenizer_t* t, const scanner_t* start, uint32_t word,
                          long_run_t* run, scanner_t* scanner, sink_t* out) {
  const uint32_t rows = (uint32_t)t->max_token_length + 1;
  scanner_t origin = *start;  // Of position 0.
  uint32_t previous = kNone;  // Token before position 0.

  // Once round, unless the vocabulary is so odd that a decision waits for more than the window.
  // Then only the first token of each path is remembered until it is certain, and all behind it is
  // computed again.
  for (;;) {
    uint32_t base = 0;  // Tokens up to here are emitted.
    uint32_t position = 0;
    int first_only = 0;  // The base is about to leave the ring: run->first stands in for paths.
    int ended = 0;
    *scanner = origin;
    for (;;) {
      const scanner_t before = *scanner;
      const uint16_t symbol = next_symbol(t, scanner);
      ended = ends_run(symbol, word);
      if (ended) {
        *scanner = before;
        break;
      }
      ++position;
      const int status = add_candidates(t, run, position, symbol & kIdMask);
      if (status != EMBBERT_TOKENIZER_OK) return status;
      extend_paths(t, run, position, base, previous, first_only);

      if (first_only) {
        uint32_t agreed;
        if (!same_first(t, run, position, &agreed)) return EMBBERT_TOKENIZER_ERROR_CORRUPT;
        if (agreed) break;
      } else if (position - base == EMBBERT_TOKENIZER_WINDOW - 1) {
        const uint32_t common = common_position(t, run, position);
        if (common > base) {
          emit_path(run, base, common, out);
          base = common;
          if (out->count >= out->limit) return EMBBERT_TOKENIZER_OK;
        } else if (base > 0) {
          break;  // Start anew from the base, where `first_only` can begin.
        } else {
          first_only = 1;
          find_first(t, run, position);
        }
      }
    }

    uint32_t done;  // Characters from position 0 whose tokens are emitted.
    if (first_only) {
      uint32_t end = position;  // Of a path that the whole takes.
      if (ended && run->last_length[ring(end)] == 0) return EMBBERT_TOKENIZER_ERROR_CORRUPT;
      while (run->last_length[ring(end)] == 0) --end;
      previous = run->first[end % rows];
      done = run->first_length[end % rows];
      emit(out, previous);
    } else if (ended) {
      if (position > base && run->last_length[ring(position)] == 0) {
        return EMBBERT_TOKENIZER_ERROR_CORRUPT;
      }
      emit_path(run, base, position, out);
      done = position;
    } else {
      previous = run->last[ring(base)];
      done = base;
    }
    if (out->count >= out->limit || (ended && done == position)) return EMBBERT_TOKENIZER_OK;
    for (; done > 0; --done) (void)next_symbol(t, &origin);
  }
}

// ---------------------------------------------------------------------------------------------
// Texts.

// Encodes one text behind what `out` holds. Stops early once out->limit is reached.
static int encode_text(const embbert_tokenizer_t* t, const char* text, size_t length,
                       embbert_tokenizer_scratch_t* scratch, sink_t* out) {
  short_run_t* const run = (short_run_t*)scratch;
  scanner_t scanner;
  scanner_start(&scanner, text, length);
  scanner_t before = scanner;  // Where `symbol` was read from.
  uint16_t symbol = next_symbol(t, &scanner);
  uint32_t unknown = kNone;  // The symbol before this one, if it was an unknown character.
  while (out->count < out->limit) {
    const uint32_t id = symbol & kIdMask;
    if (ends_run(symbol, symbol & kWordBit)) {
      if (symbol == kEnd) break;
      if (symbol == kAdded) {
        emit(out, scanner.added);
      } else if (symbol != kSpace && !(t->fuse_unknown && unknown == symbol)) {
        emit(out, id);
      }
      unknown = id == EMBBERT_TOKENIZER_UNK ? symbol : kNone;
      before = scanner;
      symbol = next_symbol(t, &scanner);
      continue;
    }
    const scanner_t start = before;
    const uint32_t word = symbol & kWordBit;
    uint32_t n = 0;
    unknown = kNone;
    do {
      const uint32_t token = symbol & kIdMask;
      if (n > 0) run->merge[n - 1] = (uint16_t)merged(t, run->token[n - 1], token);
      run->token[n++] = (uint16_t)token;
      before = scanner;
      symbol = next_symbol(t, &scanner);
    } while (!ends_run(symbol, word) && n < EMBBERT_TOKENIZER_SHORT_RUN);
    if (ends_run(symbol, word)) {
      merge_short_run(t, run, n, out);
    } else {
      const int status = merge_long_run(t, &start, word, (long_run_t*)scratch, &scanner, out);
      if (status != EMBBERT_TOKENIZER_OK) return status;
      before = scanner;
      symbol = next_symbol(t, &scanner);
    }
  }
  return EMBBERT_TOKENIZER_OK;
}

// How many ids a text has, counting no further than `limit`.
static int count_ids(const embbert_tokenizer_t* t, const char* text, size_t length, size_t limit,
                     embbert_tokenizer_scratch_t* scratch, size_t* count) {
  sink_t out = {NULL, 0, 0, limit};
  const int status = encode_text(t, text, length, scratch, &out);
  *count = out.count < limit ? out.count : limit;
  return status;
}

int embbert_tokenizer_encode(const embbert_tokenizer_t* tokenizer, const char* text, size_t length,
                             const char* pair, size_t pair_length, uint16_t* ids, size_t max_length,
                             size_t* count, embbert_tokenizer_scratch_t* scratch) {
  const size_t special = pair != NULL ? 2 : 1;
  if (tokenizer == NULL || tokenizer->blob == NULL || (text == NULL && length > 0) || ids == NULL ||
      count == NULL || scratch == NULL || max_length < special) {
    return EMBBERT_TOKENIZER_ERROR_ARGUMENT;
  }
  *count = 0;
  const size_t room = max_length - special;
  ids[0] = EMBBERT_TOKENIZER_CLS;
  sink_t out = {ids + 1, room, 0, room};
  int status = encode_text(tokenizer, text, length, scratch, &out);
  if (status != EMBBERT_TOKENIZER_OK) return status;
  size_t first = out.count < room ? out.count : room;
  if (pair == NULL) {
    *count = 1 + first;
    return EMBBERT_TOKENIZER_OK;
  }

  // Longest first: a text within half of the room keeps all of it, and the other gets the rest.
  if (first > room / 2) {
    size_t second;
    status = count_ids(tokenizer, pair, pair_length, room, scratch, &second);
    if (status != EMBBERT_TOKENIZER_OK) return status;
    if (second <= room / 2) {
      if (first > room - second) first = room - second;
    } else {
      // Both lose. An odd room leaves one token over, which the longer text keeps, or the second.
      size_t keep = room / 2;
      if (room % 2 != 0) {
        size_t whole;
        status = count_ids(tokenizer, pair, pair_length, SIZE_MAX, scratch, &second);
        if (status != EMBBERT_TOKENIZER_OK) return status;
        status = count_ids(tokenizer, text, length, second + 1, scratch, &whole);
        if (status != EMBBERT_TOKENIZER_OK) return status;
        if (whole > second) ++keep;
      }
      first = keep;
    }
  }
  ids[1 + first] = EMBBERT_TOKENIZER_SEP;
  out = (sink_t){ids + 2 + first, room - first, 0, room - first};
  status = encode_text(tokenizer, pair, pair_length, scratch, &out);
  if (status != EMBBERT_TOKENIZER_OK) return status;
  *count = 2 + first + (out.count < out.room ? out.count : out.room);
  return EMBBERT_TOKENIZER_OK;
}

const char* embbert_tokenizer_strerror(int status) {
  switch (status) {
    case EMBBERT_TOKENIZER_OK:
      return "success";
    case EMBBERT_TOKENIZER_ERROR_ARGUMENT:
      return "a null pointer, or no room for the special tokens";
    case EMBBERT_TOKENIZER_ERROR_ALIGNMENT:
      return "the tokenizer's tables must start at a multiple of 4";
    case EMBBERT_TOKENIZER_ERROR_MAGIC:
      return "not a tokenizer's tables: make them with converters/firmware/tokenizer_tables.py";
    case EMBBERT_TOKENIZER_ERROR_VERSION:
      return "the tokenizer's tables have another version: make them anew";
    case EMBBERT_TOKENIZER_ERROR_TRUNCATED:
      return "the tokenizer's tables are cut off";
    case EMBBERT_TOKENIZER_ERROR_CORRUPT:
      return "the tokenizer's tables contradict themselves";
    default:
      return "unknown status";
  }
}

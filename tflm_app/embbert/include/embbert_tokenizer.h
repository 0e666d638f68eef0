// Text to token ids, exactly as Hugging Face `tokenizers` computes them for an EmbBERT vocabulary:
// BERT normalizer (clean text, CJK spacing, accents stripped, lower case), `\w+|[^\w\s]+` words,
// byte-pair encoding.
//
// C11, no dependency beyond <stddef.h>, <stdint.h> and <string.h>, no heap, no globals, no
// recursion. Everything specific to a vocabulary, and every fact about Unicode, is in a table blob
// that converters/firmware/tokenizer_tables.py makes from a tokenizer.json; it is read in place, so
// it may stay in flash.
//
//   static const uint8_t blob[] __attribute__((aligned(4))) = {...};
//   embbert_tokenizer_t tokenizer;
//   int status = embbert_tokenizer_init(&tokenizer, blob, sizeof(blob));
//   ...
//   static embbert_tokenizer_scratch_t scratch;
//   uint16_t ids[256];
//   size_t n;
//   status = embbert_tokenizer_encode(&tokenizer, text, strlen(text), NULL, 0, ids, 256, &n,
//                                     &scratch);
//
// Memory: `embbert_tokenizer_t` and the blob are only read by encode, so tasks may share them; the
// scratch and the ids belong to one call at a time. Stack: under 500 bytes.

#ifndef EMBBERT_TOKENIZER_H_
#define EMBBERT_TOKENIZER_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Status of every function. Zero is success, failures are negative.
enum {
  EMBBERT_TOKENIZER_OK = 0,
  EMBBERT_TOKENIZER_ERROR_ARGUMENT = -1,   // A null pointer, or max_length below 1 (pair: 2).
  EMBBERT_TOKENIZER_ERROR_ALIGNMENT = -2,  // The blob does not start at a multiple of 4.
  EMBBERT_TOKENIZER_ERROR_MAGIC = -3,      // Not a tokenizer blob.
  EMBBERT_TOKENIZER_ERROR_VERSION = -4,    // A blob of another layout version.
  EMBBERT_TOKENIZER_ERROR_TRUNCATED = -5,  // The blob is shorter than its header says.
  EMBBERT_TOKENIZER_ERROR_CORRUPT = -6,    // The blob contradicts itself.
};

// Ids with a meaning; the same in every EmbBERT vocabulary.
enum {
  EMBBERT_TOKENIZER_PAD = 0,
  EMBBERT_TOKENIZER_UNK = 1,
  EMBBERT_TOKENIZER_CLS = 2,
  EMBBERT_TOKENIZER_MASK = 3,
  EMBBERT_TOKENIZER_SEP = 4,
};

// Limits of the vocabularies this library takes; the table generator names the offending token.
// Tests lower the first two to reach the code for long words with short ones.
#ifndef EMBBERT_TOKENIZER_SHORT_RUN
#define EMBBERT_TOKENIZER_SHORT_RUN 64  // Longest word, in characters, that is merged directly.
#endif
#ifndef EMBBERT_TOKENIZER_WINDOW
#define EMBBERT_TOKENIZER_WINDOW 128  // Characters of a longer word in view; a power of two.
#endif
#define EMBBERT_TOKENIZER_MAX_TOKEN_LENGTH 63  // In characters.
#define EMBBERT_TOKENIZER_MAX_CANDIDATES 256   // (max_token_length + 1) * max_suffixes at most.

// A validated blob. The fields are private: offsets and sizes read once by init.
typedef struct {
  const uint8_t* blob;
  uint32_t section[12];  // Byte offset of each table.
  uint32_t pair_mask;
  uint16_t vocab_size;
  uint16_t first_merge;  // Id of the token that the first merge makes.
  uint16_t num_merges;
  uint16_t num_buckets;
  uint16_t num_slots;
  uint16_t num_exceptions;
  uint16_t num_expansions;
  uint16_t num_added;
  uint8_t max_token_length;  // In characters.
  uint8_t max_suffixes;      // Most tokens that end at one character.
  uint8_t fuse_unknown;
  uint8_t id_bits;             // Width of a token id in the table of merges.
  uint8_t unicode_version[3];  // Of the tables: major, minor, patch.
} embbert_tokenizer_t;

// Working memory of one encode call. Contents do not matter before or after.
#define EMBBERT_TOKENIZER_SCRATCH_BYTES 1408
typedef struct {
  uint32_t words[EMBBERT_TOKENIZER_SCRATCH_BYTES / 4];
} embbert_tokenizer_scratch_t;

// Checks `blob` (`size` bytes, at a multiple of 4; it must outlive the tokenizer) and fills
// `tokenizer`. After success no text, however malformed, makes encode read outside the blob. A
// flipped bit that leaves the tables consistent is not noticed: guard the blob with a checksum.
int embbert_tokenizer_init(embbert_tokenizer_t* tokenizer, const uint8_t* blob, size_t size);

// Writes `[CLS] text` or, when `pair` is not NULL, `[CLS] text [SEP] pair` to `ids` and their count
// to `*count`: at least 1 (pair: 2), at most `max_length`. Text is UTF-8 with explicit length; it
// may hold NUL, and malformed bytes read as U+FFFD where Python's errors="replace" puts it. Text
// that does not fit loses its end; of a pair the longer loses first, as with Hugging Face's
// "longest_first". `ids` has room for `max_length` entries.
//
// Reads the text once, from the start until `ids` is full (a pair that does not fit: up to three
// times). Returns EMBBERT_TOKENIZER_OK or _ERROR_ARGUMENT; _ERROR_CORRUPT only with a blob that
// converters/firmware/tokenizer_tables.py did not make.
int embbert_tokenizer_encode(const embbert_tokenizer_t* tokenizer, const char* text, size_t length,
                             const char* pair, size_t pair_length, uint16_t* ids, size_t max_length,
                             size_t* count, embbert_tokenizer_scratch_t* scratch);

// One line of English for a status; never NULL.
const char* embbert_tokenizer_strerror(int status);

#ifdef __cplusplus
}
#endif

#endif  // EMBBERT_TOKENIZER_H_

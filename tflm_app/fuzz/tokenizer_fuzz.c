// libFuzzer target: any bytes as text, and any damage to the tables.
//
// EMBBERT_TABLES names a tables file. The first byte of an input says what the rest is:
//   bit 0: damaged tables. Four-byte records (offset: 3, value: 1) change the tables, up to a
//   record
//          of zeros; then comes text. Init refuses, or encode stays within the blob.
//   bit 1: the text is a pair, split in the middle.
//   bits 2..7: max_length, small ones first.
// Texts are checked against a second, plain implementation of merging, so that a wrong id is found
// as surely as a wrong address.
#include <stdio.h>
#include <stdlib.h>

// Its internals feed the plain implementation.
#include "../embbert/src/embbert_tokenizer.c"  // NOLINT(bugprone-suspicious-include)

#define CHECK(condition)                                               \
  do {                                                                 \
    if (!(condition)) {                                                \
      fprintf(stderr, "line %d: %s is false\n", __LINE__, #condition); \
      abort();                                                         \
    }                                                                  \
  } while (0)

enum { kUnlimited = 1 << 16 };

static uint8_t* tables;
static size_t tables_size;
static embbert_tokenizer_t tokenizer;

int LLVMFuzzerInitialize(int* argc, char*** argv);
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int LLVMFuzzerInitialize(int* argc, char*** argv) {
  (void)argc;
  (void)argv;
  const char* path = getenv("EMBBERT_TABLES");
  FILE* file = path != NULL ? fopen(path, "rb") : NULL;
  if (file == NULL) {
    fprintf(stderr, "EMBBERT_TABLES must name a file of converters/firmware/tokenizer_tables.py\n");
    exit(2);
  }
  fseek(file, 0, SEEK_END);
  tables_size = (size_t)ftell(file);
  rewind(file);
  tables = malloc(tables_size);
  CHECK(tables != NULL && fread(tables, 1, tables_size, file) == tables_size);
  fclose(file);
  CHECK(embbert_tokenizer_init(&tokenizer, tables, tables_size) == EMBBERT_TOKENIZER_OK);
  return 0;
}

// The definition of byte-pair encoding, with memory and time to spare.
static size_t encode_plainly(const char* text, size_t length, uint16_t* ids, size_t capacity) {
  scanner_t scanner;
  scanner_start(&scanner, text, length);
  size_t n = 0;
  size_t run = 0;  // Where the run starts in ids.
  uint32_t word = 0;
  for (;;) {
    const uint16_t symbol = next_symbol(&tokenizer, &scanner);
    CHECK(n < capacity);
    if (n > run && !ends_run(symbol, word)) {
      ids[n++] = symbol & kIdMask;
      continue;
    }
    static uint16_t rank[kUnlimited];  // What ids i and i + 1 merge to.
    for (size_t i = run; i + 1 < n; ++i) {
      rank[i] = (uint16_t)merged(&tokenizer, ids[i], ids[i + 1]);
    }
    while (n > run + 1) {
      size_t at = run;
      for (size_t i = run; i + 1 < n; ++i) {
        if (rank[i] < rank[at]) at = i;
      }
      if (rank[at] == kNone) break;
      ids[at] = rank[at];
      --n;
      memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof(*ids));
      memmove(rank + at, rank + at + 1, (n - at - 1) * sizeof(*rank));
      if (at > run) rank[at - 1] = (uint16_t)merged(&tokenizer, ids[at - 1], ids[at]);
      if (at + 1 < n) rank[at] = (uint16_t)merged(&tokenizer, ids[at], ids[at + 1]);
    }
    if (symbol == kEnd) return n;
    if (symbol == kAdded) {
      ids[n++] = scanner.added;
    } else if (symbol != kSpace && (symbol & kIdMask) == EMBBERT_TOKENIZER_UNK) {
      ids[n++] = EMBBERT_TOKENIZER_UNK;
    } else if (symbol != kSpace) {
      run = n;
      word = symbol & kWordBit;
      ids[n++] = symbol & kIdMask;
      continue;
    }
    run = n;
  }
}

static void damaged_tables(const uint8_t* data, size_t size) {
  uint8_t* copy = malloc(tables_size);
  CHECK(copy != NULL);
  memcpy(copy, tables, tables_size);
  while (size >= 4) {
    const uint32_t record = read32(data);
    data += 4;
    size -= 4;
    if (record == 0) break;
    copy[(record & 0xFFFFFF) % tables_size] = (uint8_t)(record >> 24);
  }
  embbert_tokenizer_t damaged;
  if (embbert_tokenizer_init(&damaged, copy, tables_size) == EMBBERT_TOKENIZER_OK) {
    embbert_tokenizer_scratch_t scratch;
    memset(&scratch, 0xA5, sizeof(scratch));
    uint16_t ids[128];
    size_t n = 0;
    const int status = embbert_tokenizer_encode(&damaged, (const char*)data, size, NULL, 0, ids,
                                                128, &n, &scratch);
    CHECK(status == EMBBERT_TOKENIZER_OK || status == EMBBERT_TOKENIZER_ERROR_CORRUPT);
    CHECK(n <= 128);
    for (size_t i = 0; i < n; ++i) CHECK(ids[i] < damaged.vocab_size);
  }
  free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t what = *data++;
  --size;
  if ((what & 1) != 0) {
    damaged_tables(data, size);
    return 0;
  }
  // Exact copies, so that the sanitizer sees a byte too far.
  const size_t split = (what & 2) != 0 ? size / 2 : size;
  char* text = malloc(split > 0 ? split : 1);
  char* pair = malloc(size - split > 0 ? size - split : 1);
  const size_t max_length = (size_t)(what >> 2) + 2;
  uint16_t* ids = malloc(max_length * sizeof(*ids));
  embbert_tokenizer_scratch_t* scratch = malloc(sizeof(*scratch));
  static uint16_t first[kUnlimited], second[kUnlimited];
  CHECK(text != NULL && pair != NULL && ids != NULL && scratch != NULL);
  memcpy(text, data, split);
  memcpy(pair, data + split, size - split);
  memset(scratch, what, sizeof(*scratch));

  size_t n = 0;
  CHECK(embbert_tokenizer_encode(&tokenizer, text, split, (what & 2) != 0 ? pair : NULL,
                                 size - split, ids, max_length, &n,
                                 scratch) == EMBBERT_TOKENIZER_OK);
  const size_t n1 = encode_plainly(text, split, first, kUnlimited);
  const size_t n2 = encode_plainly(pair, size - split, second, kUnlimited);
  size_t keep1 = n1, keep2 = 0;
  if ((what & 2) == 0) {
    if (keep1 > max_length - 1) keep1 = max_length - 1;
    CHECK(n == 1 + keep1);
  } else {
    // Drop from the longer until both fit; of equal ones the first, but never unevenly twice.
    const size_t room = max_length - 2;
    keep2 = n2;
    if (n1 + n2 > room) {
      size_t shorter = n1 > n2 ? n2 : n1;
      size_t longer = room - (shorter < room / 2 ? shorter : room / 2);
      shorter = room - longer;
      keep1 = n1 > n2 ? longer : shorter;
      keep2 = n1 > n2 ? shorter : longer;
    }
    CHECK(n == 2 + keep1 + keep2);
    CHECK(ids[1 + keep1] == EMBBERT_TOKENIZER_SEP);
    CHECK(memcmp(ids + 2 + keep1, second, keep2 * sizeof(*ids)) == 0);
  }
  CHECK(ids[0] == EMBBERT_TOKENIZER_CLS);
  CHECK(memcmp(ids + 1, first, keep1 * sizeof(*ids)) == 0);

  // The whole text, too.
  if (split < 3000) {
    static uint16_t all[kUnlimited];
    CHECK(embbert_tokenizer_encode(&tokenizer, text, split, NULL, 0, all, kUnlimited, &n,
                                   scratch) == EMBBERT_TOKENIZER_OK);
    CHECK(n == 1 + n1 && memcmp(all + 1, first, n1 * sizeof(*all)) == 0);
  }
  free(text);
  free(pair);
  free(ids);
  free(scratch);
  return 0;
}

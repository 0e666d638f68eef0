// embbert_tokenizer_init and the arguments of encode: what is refused, and that damage to any byte
// of the tables is refused or harmless. Run under AddressSanitizer, with a tables file as argument.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embbert_tokenizer.h"

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)

static const char kText[] =
    "Turn on the LIGHT [SEP] na\xc3\xafve \xed\x95\x9c\xe6\x9d\xb1 \xff donaudampfschifffahrt "
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aa"
    "abababababababababababababababababababababababababababababababababababababababababababab";

int main(int argc, char** argv) {
  CHECK(argc == 2);
  FILE* file = fopen(argv[1], "rb");
  CHECK(file != NULL);
  fseek(file, 0, SEEK_END);
  const size_t size = (size_t)ftell(file);
  rewind(file);
  uint8_t* blob = malloc(size);
  CHECK(blob != NULL && fread(blob, 1, size, file) == size);
  fclose(file);

  embbert_tokenizer_t t;
  CHECK(embbert_tokenizer_init(&t, blob, size) == EMBBERT_TOKENIZER_OK);
  CHECK(embbert_tokenizer_init(NULL, blob, size) == EMBBERT_TOKENIZER_ERROR_ARGUMENT);
  CHECK(embbert_tokenizer_init(&t, NULL, size) == EMBBERT_TOKENIZER_ERROR_ARGUMENT);
  CHECK(embbert_tokenizer_init(&t, blob + 1, size - 1) == EMBBERT_TOKENIZER_ERROR_ALIGNMENT);

  // Encode refuses what has no answer, before it writes anything.
  CHECK(embbert_tokenizer_init(&t, blob, size) == EMBBERT_TOKENIZER_OK);
  embbert_tokenizer_scratch_t scratch;
  uint16_t ids[64];
  size_t n = 77;
  CHECK(embbert_tokenizer_encode(&t, "a", 1, NULL, 0, ids, 0, &n, &scratch) ==
        EMBBERT_TOKENIZER_ERROR_ARGUMENT);
  CHECK(embbert_tokenizer_encode(&t, "a", 1, "b", 1, ids, 1, &n, &scratch) ==
        EMBBERT_TOKENIZER_ERROR_ARGUMENT);
  CHECK(embbert_tokenizer_encode(&t, NULL, 1, NULL, 0, ids, 64, &n, &scratch) ==
        EMBBERT_TOKENIZER_ERROR_ARGUMENT);
  CHECK(embbert_tokenizer_encode(&t, "a", 1, NULL, 0, NULL, 64, &n, &scratch) ==
        EMBBERT_TOKENIZER_ERROR_ARGUMENT);
  CHECK(embbert_tokenizer_encode(&t, "a", 1, NULL, 0, ids, 64, &n, NULL) ==
        EMBBERT_TOKENIZER_ERROR_ARGUMENT);
  CHECK(n == 77);
  CHECK(embbert_tokenizer_encode(&t, NULL, 0, NULL, 0, ids, 64, &n, &scratch) ==
        EMBBERT_TOKENIZER_OK);
  CHECK(n == 1 && ids[0] == EMBBERT_TOKENIZER_CLS);

  // Every length short of the whole, in a buffer of exactly that size.
  for (size_t length = 0; length < size; length += length < 256 ? 1 : 997) {
    uint8_t* part = malloc(length > 0 ? length : 1);
    CHECK(part != NULL);
    memcpy(part, blob, length);
    CHECK(embbert_tokenizer_init(&t, part, length) == EMBBERT_TOKENIZER_ERROR_TRUNCATED);
    free(part);
  }

  // Every byte, changed in several ways.
  static const uint8_t kChanges[] = {0x01, 0x80, 0xFF};
  unsigned refused = 0, harmless = 0;
  for (size_t at = 0; at < size; ++at) {
    for (size_t change = 0; change < sizeof(kChanges); ++change) {
      blob[at] ^= kChanges[change];
      const int status = embbert_tokenizer_init(&t, blob, size);
      CHECK(status <= 0 && strlen(embbert_tokenizer_strerror(status)) > 0);
      if (at < 4) CHECK(status == EMBBERT_TOKENIZER_ERROR_MAGIC);
      if (at == 4 || at == 5) CHECK(status == EMBBERT_TOKENIZER_ERROR_VERSION);
      if (status == EMBBERT_TOKENIZER_OK) {
        ++harmless;
        const int encoded =
            embbert_tokenizer_encode(&t, kText, sizeof(kText) - 1, NULL, 0, ids, 64, &n, &scratch);
        CHECK(encoded == EMBBERT_TOKENIZER_OK || encoded == EMBBERT_TOKENIZER_ERROR_CORRUPT);
        CHECK(n <= 64);
      } else {
        ++refused;
      }
      blob[at] ^= kChanges[change];
    }
  }
  printf("damaged tables: %u refused, %u read without harm\n", refused, harmless);
  free(blob);
  return 0;
}

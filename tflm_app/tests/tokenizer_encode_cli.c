// Encodes texts from stdin for the Python tests: a tables file as argument, then records of
//   uint32 length, uint32 pair length (0xFFFFFFFF: no pair), uint32 max_length, text, pair
// answered by int32 status, uint32 count, uint16 ids. Every buffer is allocated at its exact size,
// so that AddressSanitizer sees one byte too far.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embbert_tokenizer.h"

static void* read_exactly(FILE* file, size_t size) {
  void* data = malloc(size > 0 ? size : 1);
  if (data == NULL || fread(data, 1, size, file) != size) {
    fprintf(stderr, "tokenizer_encode_cli: input ended early\n");
    exit(1);
  }
  return data;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: tokenizer_encode_cli TABLES < records\n");
    return 2;
  }
  FILE* file = fopen(argv[1], "rb");
  if (file == NULL) {
    perror(argv[1]);
    return 1;
  }
  fseek(file, 0, SEEK_END);
  const size_t size = (size_t)ftell(file);
  rewind(file);
  uint8_t* blob = read_exactly(file, size);
  fclose(file);

  embbert_tokenizer_t tokenizer;
  const int loaded = embbert_tokenizer_init(&tokenizer, blob, size);
  if (loaded != EMBBERT_TOKENIZER_OK) {
    fprintf(stderr, "tokenizer_encode_cli: %s\n", embbert_tokenizer_strerror(loaded));
    return 1;
  }
  embbert_tokenizer_scratch_t* scratch = malloc(sizeof(*scratch));
  uint32_t header[3];
  while (fread(header, sizeof(uint32_t), 3, stdin) == 3) {
    const int has_pair = header[1] != 0xFFFFFFFFu;
    char* text = read_exactly(stdin, header[0]);
    char* pair = has_pair ? read_exactly(stdin, header[1]) : NULL;
    uint16_t* ids = malloc(header[2] > 0 ? 2 * (size_t)header[2] : 1);
    size_t count = 0;
    memset(scratch, 0xA5, sizeof(*scratch));  // Its contents must not matter.
    const int32_t status =
        embbert_tokenizer_encode(&tokenizer, text, header[0], pair, has_pair ? header[1] : 0, ids,
                                 header[2], &count, scratch);
    const uint32_t n = (uint32_t)count;
    fwrite(&status, sizeof(status), 1, stdout);
    fwrite(&n, sizeof(n), 1, stdout);
    fwrite(ids, sizeof(uint16_t), n, stdout);
    free(text);
    free(pair);
    free(ids);
  }
  free(scratch);
  free(blob);
  return fflush(stdout) == 0 ? 0 : 1;
}

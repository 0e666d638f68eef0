// Opens a model image damaged in every place. Arguments: the image's file.
//
// One bit of every byte, and every bit of header and section table, flipped; cut short at every
// length of the table and around every section; misplaced in memory. Each must be refused.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../embbert/src/embbert_image.h"

static int failures;

static void expect(int condition, const char* what, size_t where) {
  if (condition) return;
  fprintf(stderr, "%s at %zu\n", what, where);
  failures++;
}

int main(int argc, char** argv) {
  FILE* file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (file == NULL) return 2;
  fseek(file, 0, SEEK_END);
  const size_t size = (size_t)ftell(file);
  rewind(file);
  // Of just that size, so that AddressSanitizer sees a read past the end; malloc aligns to 16.
  uint8_t* const image = malloc(size);
  if (image == NULL || fread(image, 1, size, file) != size) return 2;
  fclose(file);

  enum { kMemory = 1 << 20 };
  static _Alignas(16) uint8_t memory[kMemory];
  embbert_engine_t engine;
  expect(embbert_engine_open(&engine, image, size, memory, kMemory, NULL) == kEmbbertOk, "refused",
         0);
  const size_t needed = engine.memory_needed;
  expect(embbert_engine_open(&engine, image, size, memory, needed, NULL) == kEmbbertOk, "refused",
         needed);
  expect(embbert_engine_open(&engine, image, size, memory, needed - 1, NULL) == kEmbbertMemory,
         "too little memory accepted", needed - 1);
  expect(embbert_engine_open(&engine, image, size, memory + 4, kMemory - 4, NULL) == kEmbbertMemory,
         "misaligned memory accepted", 4);

  uint32_t sections;
  memcpy(&sections, image + 16, sizeof(sections));
  const size_t table_end = 32 + 16 * (size_t)sections;
  size_t flips = 0;
  for (size_t at = 0; at < size; at++) {
    for (int bit = 0; bit < 8; bit++) {
      if (at >= table_end && bit != (int)(at % 8)) continue;
      image[at] ^= (uint8_t)(1 << bit);
      const int status = embbert_engine_open(&engine, image, size, memory, kMemory, NULL);
      // The length may come to lie beyond what there is; all else the checksum tells.
      const int magic = at < 4 && status == kEmbbertImage + kEmbbertImageMagic - 1;
      const int version = at >= 4 && at < 8 && status == kEmbbertImage + kEmbbertImageVersion - 1;
      const int length = at >= 8 && at < 12 && status == kEmbbertImage + kEmbbertImageTooShort - 1;
      const int checksum = status == kEmbbertImage + kEmbbertImageChecksum - 1;
      expect(magic || version || length || checksum, "flipped bit accepted", 8 * at + (size_t)bit);
      image[at] ^= (uint8_t)(1 << bit);
      flips++;
    }
  }
  for (size_t cut = 0; cut < size; cut += cut < table_end ? 1 : 61) {
    uint8_t* const shorter = malloc(cut > 0 ? cut : 1);
    memcpy(shorter, image, cut);
    const int status = embbert_engine_open(&engine, shorter, cut, memory, kMemory, NULL);
    expect(status == kEmbbertImage + kEmbbertImageTooShort - 1, "cut image accepted", cut);
    free(shorter);
  }
  uint8_t* const moved = malloc(size + 16);
  for (size_t by = 1; by < 16; by++) {
    memcpy(moved + by, image, size);
    const int status = embbert_engine_open(&engine, moved + by, size, memory, kMemory, NULL);
    expect(status == kEmbbertImage + kEmbbertImageMisplaced - 1, "misplaced image accepted", by);
  }
  free(moved);

  // What stands in the table must be there, once the checksum is right again: each section in turn
  // is renamed, and so missing.
  for (uint32_t i = 0; i < sections; i++) {
    uint8_t* const entry = image + 32 + 16 * i;
    entry[1] ^= 0x40;  // kind + 16384
    uint32_t crc = embbert_image_crc32(0, image, 12);
    crc = embbert_image_crc32(crc, image + 16, size - 16);
    memcpy(image + 12, &crc, sizeof(crc));
    const int status = embbert_engine_open(&engine, image, size, memory, kMemory, NULL);
    // The section of hashes and names is for people; the engine does without.
    expect(entry[0] == kEmbbertSectionSource ? status == kEmbbertOk : status == kEmbbertSection,
           "missing section accepted", i);
    entry[1] ^= 0x40;
  }
  free(image);
  if (failures > 0) return 1;
  printf("%zu flipped bits refused\n", flips);
  return 0;
}

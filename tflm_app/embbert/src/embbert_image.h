// The model image: everything a device needs of one model in one block of flash. Not for
// applications.
//
// converters/firmware/model_image.py writes it and documents the same layout. All numbers are
// little-endian and 32 bits wide. Header of 32 bytes: magic "EBMI", version, length of the whole
// image, CRC-32 (of everything but itself), number of sections, three zeros. Then the section
// table, 16 bytes an entry: kind, index, offset, size. Then the sections in the table's order, each
// at the next multiple of 16, the gaps zero.

#ifndef EMBBERT_IMAGE_H_
#define EMBBERT_IMAGE_H_

#include <stddef.h>
#include <stdint.h>

#include "embbert.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMBBERT_IMAGE_MAGIC 0x494D4245u  // "EBMI"
#define EMBBERT_IMAGE_VERSION 1u
#define EMBBERT_IMAGE_HEADER_BYTES 32u
#define EMBBERT_IMAGE_ENTRY_BYTES 16u
#define EMBBERT_IMAGE_ALIGNMENT 16u
#define EMBBERT_IMAGE_MAX_SECTIONS 256u

// Kinds of section. Those of blocks have the block's number as index, all others 0.
typedef enum {
  kEmbbertSectionConfig = 1,  // embbert_config_t
  kEmbbertSectionSource =
      2,  // strings: generator, model, hash of model.tflite, hash of tokenizer.json
  kEmbbertSectionLabels = 3,      // a zero-terminated UTF-8 string a label
  kEmbbertSectionConfidence = 4,  // (256) uint32: 65536 * exp(-d * scale of the logits), d = 0..255
  kEmbbertSectionTokenizer = 5,   // blob of converters/firmware/tokenizer_tables.py
  kEmbbertSectionEmbedOptions = 16,
  kEmbbertSectionEmbedToken = 17,
  kEmbbertSectionEmbedPosition = 18,
  kEmbbertSectionEmbedWeight = 19,
  kEmbbertSectionEmbedBias = 20,
  kEmbbertSectionBlockOptions = 32,
  kEmbbertSectionBlockWq = 33,
  kEmbbertSectionBlockBq = 34,
  kEmbbertSectionBlockWv = 35,
  kEmbbertSectionBlockConv = 36,
  kEmbbertSectionBlockConvBias = 37,
  kEmbbertSectionBlockWz = 38,
  kEmbbertSectionBlockBz = 39,
  kEmbbertSectionHeadOptions = 48,
  kEmbbertSectionHeadWeight = 49,
  kEmbbertSectionHeadBias = 50,
  kEmbbertSectionTflite =
      64,  // RUNTIME=tflm: the graph, in place of all from kEmbbertSectionEmbedOptions on
  kEmbbertSectionTflmShape = 65,  // tflm_shape_t
} embbert_section_t;

typedef enum {
  kEmbbertImageOk = 0,
  kEmbbertImageTooShort,   // shorter than a header, or than the header says
  kEmbbertImageMisplaced,  // not at a multiple of 16
  kEmbbertImageMagic,      // no image at all
  kEmbbertImageVersion,    // of another layout version
  kEmbbertImageChecksum,   // CRC-32 differs: at least one bit is not what was written
  kEmbbertImageTable,      // the section table contradicts itself
} embbert_image_status_t;

// CRC-32 as in zlib (reflected 0xEDB88320) of `count` bytes, continuing from `crc`; 0 to begin.
uint32_t embbert_image_crc32(uint32_t crc, const uint8_t* bytes, size_t count);

// Checks all of `bytes` and fills `image`, which keeps the pointer. Reads nothing outside
// `capacity` bytes whatever they hold; the image may be shorter than `capacity`.
embbert_image_status_t embbert_image_open(embbert_image_t* image, const void* bytes,
                                          size_t capacity);

// Returns the section's first byte, at a multiple of 16, and its size; NULL and 0 when absent.
const void* embbert_image_section(const embbert_image_t* image, embbert_section_t kind,
                                  uint32_t index, size_t* size);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_IMAGE_H_

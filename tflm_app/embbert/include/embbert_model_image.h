// The model image: everything a device needs of one model in one block of flash.
//
// converters/firmware/model_image.py writes it and documents the same layout. All numbers are
// little-endian and 32 bits wide. Header of 32 bytes: magic "EBMI", version, length of the whole
// image, CRC-32 (of everything but itself), number of sections, three zeros. Then the section
// table, 16 bytes an entry: kind, index, offset, size. Then the sections in the table's order, each
// at the next multiple of 16, the gaps zero.

#ifndef EMBBERT_MODEL_IMAGE_H_
#define EMBBERT_MODEL_IMAGE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MODEL_IMAGE_MAGIC 0x494D4245u  // "EBMI"
#define MODEL_IMAGE_VERSION 1u
#define MODEL_IMAGE_HEADER_BYTES 32u
#define MODEL_IMAGE_ENTRY_BYTES 16u
#define MODEL_IMAGE_ALIGNMENT 16u
#define MODEL_IMAGE_MAX_SECTIONS 256u

// Kinds of section. Those of blocks have the block's number as index, all others 0.
typedef enum {
  kSectionConfig = 1,  // model_config_t
  kSectionSource = 2,  // strings: generator, model, hash of model.tflite, hash of tokenizer.json
  kSectionLabels = 3,  // a zero-terminated UTF-8 string a label
  kSectionConfidence = 4,  // (256) uint32: 65536 * exp(-d * scale of the logits), d = 0..255
  kSectionTokenizer = 5,   // blob of converters/firmware/tokenizer_tables.py
  kSectionEmbedOptions = 16,
  kSectionEmbedToken = 17,
  kSectionEmbedPosition = 18,
  kSectionEmbedWeight = 19,
  kSectionEmbedBias = 20,
  kSectionBlockOptions = 32,
  kSectionBlockWq = 33,
  kSectionBlockBq = 34,
  kSectionBlockWv = 35,
  kSectionBlockConv = 36,
  kSectionBlockConvBias = 37,
  kSectionBlockWz = 38,
  kSectionBlockBz = 39,
  kSectionHeadOptions = 48,
  kSectionHeadWeight = 49,
  kSectionHeadBias = 50,
  kSectionTflite = 64,     // RUNTIME=tflm: the graph, in place of all from kSectionEmbedOptions on
  kSectionTflmShape = 65,  // tflm_shape_t
} section_kind_t;

// What the image says of the model as a whole.
typedef struct {
  int32_t task;              // 0 classification, 1 regression
  int32_t pair;              // 1 when the model was trained on pairs of texts
  int32_t blocks;            // layers
  int32_t labels;            // logits
  int32_t threshold;         // confidence below which an answer is unsure, in 1/10000
  int32_t logits_zero;       // zero point of the logits
  int32_t score_multiplier;  // regression: score in 1/1000 = (logit - zero) * multiplier / 65536
  int32_t reserved;          // 0
} model_config_t;

typedef enum {
  kImageOk = 0,
  kImageTooShort,   // shorter than a header, or than the header says
  kImageMisplaced,  // not at a multiple of 16
  kImageMagic,      // no image at all
  kImageVersion,    // of another layout version
  kImageChecksum,   // CRC-32 differs: at least one bit is not what was written
  kImageTable,      // the section table contradicts itself
} image_status_t;

typedef struct {
  const uint8_t* bytes;
  uint32_t size;
  uint32_t sections;
} model_image_t;

// CRC-32 as in zlib (reflected 0xEDB88320) of `count` bytes, continuing from `crc`; 0 to begin.
uint32_t model_image_crc32(uint32_t crc, const uint8_t* bytes, size_t count);

// Checks all of `bytes` and fills `image`, which keeps the pointer. Reads nothing outside
// `capacity` bytes whatever they hold; the image may be shorter than `capacity`.
image_status_t model_image_open(model_image_t* image, const void* bytes, size_t capacity);

// Returns the section's first byte, at a multiple of 16, and its size; NULL and 0 when absent.
const void* model_image_section(const model_image_t* image, section_kind_t kind, uint32_t index,
                                size_t* size);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // EMBBERT_MODEL_IMAGE_H_

#include "embbert_image.h"

#include <string.h>

enum { kCrcAt = 12 };  // offset of the checksum in the header

// A table of 16 entries, a nibble a step: 64 bytes of flash instead of 1024, and an image of 400 kB
// is checked at boot in some five million instructions.
uint32_t embbert_image_crc32(uint32_t crc, const uint8_t* bytes, size_t count) {
  static const uint32_t kTable[16] = {
      0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
      0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
      0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
  };
  crc = ~crc;
  for (size_t i = 0; i < count; i++) {
    crc ^= bytes[i];
    crc = (crc >> 4) ^ kTable[crc & 15u];
    crc = (crc >> 4) ^ kTable[crc & 15u];
  }
  return ~crc;
}

static uint32_t word_at(const uint8_t* bytes, uint32_t offset) {
  uint32_t word;
  memcpy(&word, bytes + offset, sizeof(word));
  return word;
}

embbert_image_status_t embbert_image_open(embbert_image_t* image, const void* bytes,
                                          size_t capacity) {
  const uint8_t* const start = bytes;
  if ((uintptr_t)start % EMBBERT_IMAGE_ALIGNMENT != 0) return kEmbbertImageMisplaced;
  if (capacity < EMBBERT_IMAGE_HEADER_BYTES) return kEmbbertImageTooShort;
  if (word_at(start, 0) != EMBBERT_IMAGE_MAGIC) return kEmbbertImageMagic;
  if (word_at(start, 4) != EMBBERT_IMAGE_VERSION) return kEmbbertImageVersion;
  const uint32_t size = word_at(start, 8);
  if (size < EMBBERT_IMAGE_HEADER_BYTES || size > capacity) return kEmbbertImageTooShort;

  uint32_t crc = embbert_image_crc32(0, start, kCrcAt);
  crc = embbert_image_crc32(crc, start + kCrcAt + 4, size - kCrcAt - 4);
  if (crc != word_at(start, kCrcAt)) return kEmbbertImageChecksum;

  // The sum holds; what follows guards against an image made wrong, or made to harm.
  const uint32_t sections = word_at(start, 16);
  if (word_at(start, 20) != 0 || word_at(start, 24) != 0 || word_at(start, 28) != 0 ||
      sections > EMBBERT_IMAGE_MAX_SECTIONS ||
      EMBBERT_IMAGE_HEADER_BYTES + sections * EMBBERT_IMAGE_ENTRY_BYTES > size) {
    return kEmbbertImageTable;
  }
  uint32_t end = EMBBERT_IMAGE_HEADER_BYTES + sections * EMBBERT_IMAGE_ENTRY_BYTES;
  for (uint32_t i = 0; i < sections; i++) {
    const uint32_t entry = EMBBERT_IMAGE_HEADER_BYTES + i * EMBBERT_IMAGE_ENTRY_BYTES;
    const uint32_t offset = word_at(start, entry + 8);
    const uint32_t section_size = word_at(start, entry + 12);
    // `end` is at most `size`, so that rounding it up cannot wrap: the image lies in memory.
    end = (end + EMBBERT_IMAGE_ALIGNMENT - 1) & ~(EMBBERT_IMAGE_ALIGNMENT - 1);
    if (offset != end || offset > size || section_size > size - offset) return kEmbbertImageTable;
    end = offset + section_size;
  }
  if (size - end >= EMBBERT_IMAGE_ALIGNMENT) return kEmbbertImageTable;
  image->bytes = start;
  image->size = size;
  image->sections = sections;
  return kEmbbertImageOk;
}

const void* embbert_image_section(const embbert_image_t* image, embbert_section_t kind,
                                  uint32_t index, size_t* size) {
  for (uint32_t i = 0; i < image->sections; i++) {
    const uint32_t entry = EMBBERT_IMAGE_HEADER_BYTES + i * EMBBERT_IMAGE_ENTRY_BYTES;
    if (word_at(image->bytes, entry) == (uint32_t)kind &&
        word_at(image->bytes, entry + 4) == index) {
      *size = word_at(image->bytes, entry + 12);
      return image->bytes + word_at(image->bytes, entry + 8);
    }
  }
  *size = 0;
  return NULL;
}

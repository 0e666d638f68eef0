// libFuzzer target: any bytes as a model image. Unless the first byte is odd, the checksum is put
// right first, so that the fuzzer gets behind it. An image that the engine accepts must classify
// without a fault, whatever its weights and options say.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../embbert/src/embbert_image.h"

enum { kMemory = 1 << 20, kMost = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > kMost) return 0;
  const size_t image_size = size - 1;
  // A block of just that size, so that a read past its end is seen; malloc aligns to 16.
  uint8_t* const image = malloc(image_size > 0 ? image_size : 1);
  memcpy(image, data + 1, image_size);
  if (data[0] % 2 == 0 && image_size >= 32) {
    uint32_t length;
    memcpy(&length, image + 8, 4);
    if (length > image_size || length < 32) length = (uint32_t)image_size;
    memcpy(image + 8, &length, 4);
    uint32_t crc = embbert_image_crc32(0, image, 12);
    crc = embbert_image_crc32(crc, image + 16, length - 16);
    memcpy(image + 12, &crc, 4);
  }
  static _Alignas(16) uint8_t memory[kMemory];
  embbert_engine_t engine;
  if (embbert_engine_open(&engine, image, image_size, memory, sizeof(memory), NULL) == 0) {
    static const char kText[] = "Turn on the kitchen light, 2nd floor!";
    embbert_result_t result;
    const int status = embbert_engine_classify(&engine, kText, sizeof(kText) - 1, NULL, 0, &result);
    if (status == 0 && (result.label < 0 || result.label >= engine.config.labels ||
                        result.confidence > 10000 || strlen(result.name) > image_size)) {
      abort();
    }
    // Memory of one byte less than it asks for is refused.
    if (embbert_engine_open(&engine, image, image_size, memory, engine.memory_needed - 1, NULL) !=
        kEmbbertMemory) {
      abort();
    }
  }
  free(image);
  return 0;
}

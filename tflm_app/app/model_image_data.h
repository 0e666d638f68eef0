// The model image that converters/generate_firmware.py made, linked into the program.

#ifndef EMBBERT_TFLM_APP_APP_MODEL_IMAGE_DATA_H_
#define EMBBERT_TFLM_APP_APP_MODEL_IMAGE_DATA_H_

#include <stdint.h>

extern const uint32_t model_image_size;    // bytes
extern const uint32_t model_image_data[];  // 16-byte aligned

#endif  // EMBBERT_TFLM_APP_APP_MODEL_IMAGE_DATA_H_

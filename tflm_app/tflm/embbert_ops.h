// EmbBERT's custom operators for TensorFlow Lite Micro: glue over embbert_kernels.h.
//
//   tflite::MicroMutableOpResolver<3> resolver;
//   embbert::AddOperators(resolver);
//
// converters/fuse.py makes graphs of them; docs/tflm.md has inputs, outputs and options.
#ifndef EMBBERT_TFLM_APP_TFLM_EMBBERT_OPS_H_
#define EMBBERT_TFLM_APP_TFLM_EMBBERT_OPS_H_

#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_common.h"

namespace embbert {

const TFLMRegistration* Register_EMBED();
const TFLMRegistration* Register_BLOCK();
const TFLMRegistration* Register_HEAD();

// Adds all three to a MicroMutableOpResolver.
template <typename Resolver>
TfLiteStatus AddOperators(Resolver& resolver) {
  TF_LITE_ENSURE_STATUS(resolver.AddCustom("EMBBERT_EMBED", Register_EMBED()));
  TF_LITE_ENSURE_STATUS(resolver.AddCustom("EMBBERT_BLOCK", Register_BLOCK()));
  return resolver.AddCustom("EMBBERT_HEAD", Register_HEAD());
}

}  // namespace embbert

#endif  // EMBBERT_TFLM_APP_TFLM_EMBBERT_OPS_H_

#include "embbert_ops.h"

#include <cstddef>
#include <cstdint>

#include "embbert_kernels.h"
#include "embbert_op_checks.h"

namespace embbert {
namespace {

// Input and output indices; converters/kernels/fused_graph.py has the same names.
constexpr int kEmbedIds = 0;
constexpr int kEmbedSegments = 1;  // optional
constexpr int kEmbedToken = 2;
constexpr int kEmbedPosition = 3;
constexpr int kEmbedWeight = 4;
constexpr int kEmbedBias = 5;
constexpr int kEmbedInputs = 6;
constexpr int kEmbedX = 0;
constexpr int kEmbedCount = 1;
constexpr int kEmbedOutputs = 2;

constexpr int kBlockX = 0;
constexpr int kBlockCount = 1;
constexpr int kBlockWq = 2;
constexpr int kBlockBq = 3;
constexpr int kBlockWv = 4;
constexpr int kBlockConv = 5;
constexpr int kBlockConvBias = 6;
constexpr int kBlockWz = 7;
constexpr int kBlockBz = 8;
constexpr int kBlockInputs = 9;

constexpr int kHeadX = 0;
constexpr int kHeadWeight = 1;
constexpr int kHeadBias = 2;
constexpr int kHeadInputs = 3;

constexpr int32_t kPad = 0;  // [PAD]

struct EmbedData {
  embbert_embed_t params;
  embbert_status_t status;  // of Init, which cannot fail by itself
  int ids_scratch;          // (S) uint16, then (S) uint8
};

struct BlockData {
  embbert_block_t params;
  embbert_status_t status;
  int scratch;
  size_t scratch_size;
};

struct HeadData {
  embbert_head_t params;
  embbert_status_t status;
};

// ---- EMBBERT_EMBED ------------------------------------------------------------------------------

void* EmbedInit(TfLiteContext* context, const char* buffer, size_t length) {
  return InitWith<EmbedData>(context, buffer, length, embbert_embed_init);
}

TfLiteStatus EmbedPrepare(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<EmbedData*>(node->user_data);
  TF_LITE_ENSURE_STATUS(
      CheckInit("EMBBERT_EMBED", data, data == nullptr ? EMBBERT_OK : data->status));
  TF_LITE_ENSURE_EQ(context, tflite::NumInputs(node), kEmbedInputs);
  TF_LITE_ENSURE_EQ(context, tflite::NumOutputs(node), kEmbedOutputs);
  embbert_embed_t& embed = data->params;
  TF_LITE_ENSURE_STATUS(
      CheckActivation(context, node, kEmbedIds, false, kTfLiteInt32, embed.max_length));
  if (node->inputs->data[kEmbedSegments] >= 0) {
    TF_LITE_ENSURE_STATUS(
        CheckActivation(context, node, kEmbedSegments, false, kTfLiteInt32, embed.max_length));
  }
  TF_LITE_ENSURE_STATUS(
      CheckActivation(context, node, kEmbedX, true, kTfLiteInt8, embed.max_length * embed.hidden));
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kEmbedCount, true, kTfLiteInt32, 1));
  embed.token =
      Constant<int8_t>(context, node, kEmbedToken,
                       embed.vocab_size * EMBBERT_TOKEN_ROW_BYTES(embed.reduced, embed.token_bits));
  embed.position =
      Constant<int8_t>(context, node, kEmbedPosition, embed.max_length * embed.reduced);
  embed.weight =
      Constant<int8_t>(context, node, kEmbedWeight,
                       EMBBERT_WEIGHT_BYTES(embed.hidden, 2 * embed.reduced, embed.weight_bits));
  embed.bias = Constant<int32_t>(context, node, kEmbedBias, 2 * embed.hidden);
  TF_LITE_ENSURE(context, embed.token != nullptr && embed.position != nullptr &&
                              embed.weight != nullptr && embed.bias != nullptr);
  const size_t length = static_cast<size_t>(embed.max_length);
  return context->RequestScratchBufferInArena(context, length * (sizeof(uint16_t) + 1),
                                              &data->ids_scratch);
}

TfLiteStatus EmbedEval(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<EmbedData*>(node->user_data);
  const embbert_embed_t& embed = data->params;
  const int32_t* ids = tflite::micro::GetTensorData<int32_t>(
      tflite::micro::GetEvalInput(context, node, kEmbedIds));  // (S)
  const int32_t* segments = nullptr;                           // (S)
  if (node->inputs->data[kEmbedSegments] >= 0) {
    segments = tflite::micro::GetTensorData<int32_t>(
        tflite::micro::GetEvalInput(context, node, kEmbedSegments));
  }
  int8_t* x = tflite::micro::GetTensorData<int8_t>(
      tflite::micro::GetEvalOutput(context, node, kEmbedX));  // (S, D)
  int32_t* count = tflite::micro::GetTensorData<int32_t>(
      tflite::micro::GetEvalOutput(context, node, kEmbedCount));

  int32_t n = embed.max_length;
  while (n > 0 && ids[n - 1] == kPad) n--;
  auto* short_ids = static_cast<uint16_t*>(context->GetScratchBuffer(context, data->ids_scratch));
  auto* short_segments = reinterpret_cast<uint8_t*>(short_ids + embed.max_length);
  for (int32_t t = 0; t < n; t++) {
    // The kernel checks vocabulary and segments, but sees 16 and 8 bits of them.
    if (ids[t] < 0 || ids[t] >= embed.vocab_size || ids[t] == kPad) {
      MicroPrintf("EMBBERT_EMBED: id %d at position %d: outside the vocabulary, or [PAD] inside",
                  static_cast<int>(ids[t]), static_cast<int>(t));
      return kTfLiteError;
    }
    short_ids[t] = static_cast<uint16_t>(ids[t]);
    if (segments != nullptr) {
      short_segments[t] =
          segments[t] == 1 || segments[t] == 2 ? static_cast<uint8_t>(segments[t]) : uint8_t{0};
    }
  }
  const embbert_status_t status =
      embbert_embed(&embed, short_ids, segments != nullptr ? short_segments : nullptr, n, x);
  if (status != EMBBERT_OK) {
    MicroPrintf("EMBBERT_EMBED: error %d with %d tokens", static_cast<int>(status),
                static_cast<int>(n));
    return kTfLiteError;
  }
  *count = n;
  return kTfLiteOk;
}

// ---- EMBBERT_BLOCK ------------------------------------------------------------------------------

void* BlockInit(TfLiteContext* context, const char* buffer, size_t length) {
  return InitWith<BlockData>(context, buffer, length, embbert_block_init);
}

TfLiteStatus BlockPrepare(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<BlockData*>(node->user_data);
  TF_LITE_ENSURE_STATUS(
      CheckInit("EMBBERT_BLOCK", data, data == nullptr ? EMBBERT_OK : data->status));
  TF_LITE_ENSURE_EQ(context, tflite::NumInputs(node), kBlockInputs);
  TF_LITE_ENSURE_EQ(context, tflite::NumOutputs(node), 1);
  embbert_block_t& block = data->params;
  const int32_t d = block.hidden;
  const int32_t inner = d * block.expansion;

  tflite::MicroContext* micro = tflite::GetMicroContext(context);
  TfLiteTensor* x = micro->AllocateTempInputTensor(node, kBlockX);
  TF_LITE_ENSURE(context, x != nullptr);
  const int32_t length = tflite::NumDimensions(x) == 2 ? tflite::SizeOfDimension(x, 0) : 0;
  // The kernel normalises x in place: neither a constant nor a graph input may come in here.
  const bool writable = x->allocation_type == kTfLiteArenaRw;
  micro->DeallocateTempTfLiteTensor(x);
  TF_LITE_ENSURE(context, writable && length >= 1 && length <= EMBBERT_MAX_LENGTH);
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kBlockX, false, kTfLiteInt8, length * d));
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kBlockCount, false, kTfLiteInt32, 1));
  TfLiteTensor* out = micro->AllocateTempOutputTensor(node, kOutput);
  TF_LITE_ENSURE(context, out != nullptr);
  const int32_t rows = tflite::NumDimensions(out) == 2 ? tflite::SizeOfDimension(out, 0) : 0;
  micro->DeallocateTempTfLiteTensor(out);
  TF_LITE_ENSURE(context, rows == length || rows == 1);
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kOutput, true, kTfLiteInt8, rows * d));

  const int32_t square = EMBBERT_WEIGHT_BYTES(d, d, block.weight_bits);
  block.wq = Constant<int8_t>(context, node, kBlockWq, square);
  block.bq = Constant<int32_t>(context, node, kBlockBq, d);
  block.wv = Constant<int8_t>(context, node, kBlockWv, square);
  block.conv = Constant<int8_t>(context, node, kBlockConv, block.taps * inner);
  block.conv_bias = Constant<int32_t>(context, node, kBlockConvBias, inner);
  block.wz =
      Constant<int8_t>(context, node, kBlockWz, EMBBERT_WEIGHT_BYTES(d, inner, block.weight_bits));
  block.bz = Constant<int32_t>(context, node, kBlockBz, d);
  TF_LITE_ENSURE(context, block.wq != nullptr && block.bq != nullptr && block.wv != nullptr &&
                              block.conv != nullptr && block.conv_bias != nullptr &&
                              block.wz != nullptr && block.bz != nullptr);
  data->scratch_size = embbert_block_scratch_size(&block, length);
  return context->RequestScratchBufferInArena(context, data->scratch_size, &data->scratch);
}

TfLiteStatus BlockEval(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<BlockData*>(node->user_data);
  int8_t* x = tflite::micro::GetTensorData<int8_t>(
      tflite::micro::GetMutableEvalInput(context, node, kBlockX));  // (S, D)
  const int32_t n = *tflite::micro::GetTensorData<int32_t>(
      tflite::micro::GetEvalInput(context, node, kBlockCount));
  TfLiteEvalTensor* output = tflite::micro::GetEvalOutput(context, node, kOutput);
  const int32_t rows = output->dims->data[0] == 1 ? 1 : n;
  const embbert_status_t status =
      embbert_block(&data->params, x, n, rows, tflite::micro::GetTensorData<int8_t>(output),
                    context->GetScratchBuffer(context, data->scratch), data->scratch_size, nullptr);
  if (status == EMBBERT_OK) return kTfLiteOk;
  MicroPrintf("EMBBERT_BLOCK: error %d with %d tokens", static_cast<int>(status),
              static_cast<int>(n));
  return kTfLiteError;
}

// ---- EMBBERT_HEAD -------------------------------------------------------------------------------

void* HeadInit(TfLiteContext* context, const char* buffer, size_t length) {
  return InitWith<HeadData>(context, buffer, length, embbert_head_init);
}

TfLiteStatus HeadPrepare(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<HeadData*>(node->user_data);
  TF_LITE_ENSURE_STATUS(
      CheckInit("EMBBERT_HEAD", data, data == nullptr ? EMBBERT_OK : data->status));
  TF_LITE_ENSURE_EQ(context, tflite::NumInputs(node), kHeadInputs);
  TF_LITE_ENSURE_EQ(context, tflite::NumOutputs(node), 1);
  embbert_head_t& head = data->params;
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kHeadX, false, kTfLiteInt8, head.hidden));
  TF_LITE_ENSURE_STATUS(CheckActivation(context, node, kOutput, true, kTfLiteInt8, head.labels));
  head.weight = Constant<int8_t>(context, node, kHeadWeight,
                                 EMBBERT_WEIGHT_BYTES(head.labels, head.hidden, head.weight_bits));
  head.bias = Constant<int32_t>(context, node, kHeadBias, head.labels);
  TF_LITE_ENSURE(context, head.weight != nullptr && head.bias != nullptr);
  return kTfLiteOk;
}

TfLiteStatus HeadEval(TfLiteContext* context, TfLiteNode* node) {
  auto* data = static_cast<HeadData*>(node->user_data);
  const embbert_status_t status = embbert_head(
      &data->params,
      tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalInput(context, node, kHeadX)),
      tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalOutput(context, node, kOutput)));
  if (status == EMBBERT_OK) return kTfLiteOk;
  MicroPrintf("EMBBERT_HEAD: error %d", static_cast<int>(status));
  return kTfLiteError;
}

}  // namespace

const TFLMRegistration* Register_EMBED() {
  static TFLMRegistration registration;
  registration = Registration(EmbedInit, EmbedPrepare, EmbedEval);
  return &registration;
}

const TFLMRegistration* Register_BLOCK() {
  static TFLMRegistration registration;
  registration = Registration(BlockInit, BlockPrepare, BlockEval);
  return &registration;
}

const TFLMRegistration* Register_HEAD() {
  static TFLMRegistration registration;
  registration = Registration(HeadInit, HeadPrepare, HeadEval);
  return &registration;
}

}  // namespace embbert

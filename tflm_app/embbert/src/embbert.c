#include "embbert.h"

#include <string.h>

#include "embbert_backend.h"

static const void* section_of(const embbert_engine_t* engine, section_kind_t kind, uint32_t index,
                              size_t expected) {
  size_t size;
  const void* section = model_image_section(&engine->image, kind, index, &size);
  return size == expected ? section : NULL;
}

#ifndef EMBBERT_OTHER_BACKEND

// Biases that no 32-bit sum of products can carry over the edge: |products| < 2^29 for every shape
// that the kernels take.
static bool biases_fit(const int32_t* bias, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (bias[i] > 0x40000000 || bias[i] < -0x40000000) return false;
  }
  return true;
}

static int open_embed(embbert_engine_t* engine) {
  embbert_embed_t* const embed = &engine->model.embed;
  size_t size;
  const void* options = model_image_section(&engine->image, kSectionEmbedOptions, 0, &size);
  if (options == NULL) return kEngineSection;
  if (embbert_embed_init(embed, options, size) != EMBBERT_OK) return kEngineOptions;
  const size_t v = (size_t)embed->vocab_size;
  const size_t s = (size_t)embed->max_length;
  const size_t r = (size_t)embed->reduced;
  const size_t d = (size_t)embed->hidden;
  embed->token = section_of(engine, kSectionEmbedToken, 0, v * r);
  embed->position = section_of(engine, kSectionEmbedPosition, 0, s * r);
  embed->weight = section_of(engine, kSectionEmbedWeight, 0, d * 2 * r);
  embed->bias = section_of(engine, kSectionEmbedBias, 0, 2 * d * sizeof(int32_t));
  const bool complete = embed->token != NULL && embed->position != NULL && embed->weight != NULL &&
                        embed->bias != NULL;
  if (!complete) return kEngineSection;
  return biases_fit(embed->bias, 2 * d) ? kEngineOk : kEngineShapes;
}

static int open_block(embbert_engine_t* engine, embbert_block_t* block, uint32_t index) {
  size_t size;
  const void* options = model_image_section(&engine->image, kSectionBlockOptions, index, &size);
  if (options == NULL) return kEngineSection;
  if (embbert_block_init(block, options, size) != EMBBERT_OK) return kEngineOptions;
  if (block->hidden != engine->model.embed.hidden) return kEngineShapes;
  const size_t d = (size_t)block->hidden;
  const size_t inner = d * (size_t)block->expansion;
  block->wq = section_of(engine, kSectionBlockWq, index, d * d);
  block->bq = section_of(engine, kSectionBlockBq, index, d * sizeof(int32_t));
  block->wv = section_of(engine, kSectionBlockWv, index, d * d);
  block->conv = section_of(engine, kSectionBlockConv, index, (size_t)block->taps * inner);
  block->conv_bias = section_of(engine, kSectionBlockConvBias, index, inner * sizeof(int32_t));
  block->wz = section_of(engine, kSectionBlockWz, index, d * inner);
  block->bz = section_of(engine, kSectionBlockBz, index, d * sizeof(int32_t));
  const bool complete = block->wq != NULL && block->bq != NULL && block->wv != NULL &&
                        block->conv != NULL && block->conv_bias != NULL && block->wz != NULL &&
                        block->bz != NULL;
  if (!complete) return kEngineSection;
  const bool fit =
      biases_fit(block->bq, d) && biases_fit(block->conv_bias, inner) && biases_fit(block->bz, d);
  return fit ? kEngineOk : kEngineShapes;
}

static int open_head(embbert_engine_t* engine) {
  embbert_head_t* const head = &engine->model.head;
  size_t size;
  const void* options = model_image_section(&engine->image, kSectionHeadOptions, 0, &size);
  if (options == NULL) return kEngineSection;
  if (embbert_head_init(head, options, size) != EMBBERT_OK) return kEngineOptions;
  if (head->hidden != engine->model.embed.hidden || head->labels != engine->config.labels) {
    return kEngineShapes;
  }
  const size_t labels = (size_t)head->labels;
  head->weight = section_of(engine, kSectionHeadWeight, 0, labels * (size_t)head->hidden);
  head->bias = section_of(engine, kSectionHeadBias, 0, labels * sizeof(int32_t));
  if (head->weight == NULL || head->bias == NULL) return kEngineSection;
  return biases_fit(head->bias, labels) ? kEngineOk : kEngineShapes;
}

#endif  // EMBBERT_OTHER_BACKEND

// As many strings as labels, the last one terminated.
static bool labels_are_complete(const char* labels, size_t size, int32_t count) {
  int32_t found = 0;
  for (size_t i = 0; i < size; i++) found += labels[i] == '\0';
  return size > 0 && labels[size - 1] == '\0' && found == count;
}

int embbert_engine_open(embbert_engine_t* engine, const void* image, size_t image_capacity,
                        void* memory, size_t memory_size) {
  if (engine == NULL || image == NULL) return kEngineArgument;
  memset(engine, 0, sizeof(*engine));
  const image_status_t image_status = model_image_open(&engine->image, image, image_capacity);
  if (image_status != kImageOk) return kEngineImage + (int)image_status - 1;

  const model_config_t* config = section_of(engine, kSectionConfig, 0, sizeof(*config));
  engine->confidence = section_of(engine, kSectionConfidence, 0, 256 * sizeof(uint32_t));
  size_t labels_size;
  engine->labels = model_image_section(&engine->image, kSectionLabels, 0, &labels_size);
  size_t blob_size;
  const void* blob = model_image_section(&engine->image, kSectionTokenizer, 0, &blob_size);
  if (config == NULL || engine->confidence == NULL || engine->labels == NULL || blob == NULL) {
    return kEngineSection;
  }
  engine->config = *config;
  if (config->blocks < 1 || config->blocks > EMBBERT_MAX_BLOCKS || config->labels < 1 ||
      config->labels > 0xFFFF || config->task < 0 || config->task > 1 || config->pair < 0 ||
      config->pair > 1 || !labels_are_complete(engine->labels, labels_size, config->labels)) {
    return kEngineShapes;
  }
  for (int i = 0; i < 256; i++) {
    // A sum of 65535 of them fits 32 bits, and that of a softmax begins with 65536.
    if (engine->confidence[i] > 65536u) return kEngineShapes;
  }
  if (engine->confidence[0] != 65536u) return kEngineShapes;

#ifdef EMBBERT_OTHER_BACKEND
  int status = embbert_backend_shape(engine);
#else
  int status = open_embed(engine);
  if (status != kEngineOk) return status;
  status = open_head(engine);
#endif
  if (status != kEngineOk) return status;
  if (embbert_tokenizer_init(&engine->tokenizer, blob, blob_size) != EMBBERT_TOKENIZER_OK) {
    return kEngineTokenizerTables;
  }
  // A vocabulary larger than the embedding table would give ids that the embedder refuses.
  if (engine->tokenizer.vocab_size > engine->model.embed.vocab_size) return kEngineShapes;
  const size_t max_length = (size_t)engine->model.embed.max_length;
  if (max_length < 2) return kEngineShapes;

#ifdef EMBBERT_OTHER_BACKEND
  return embbert_backend_open(engine, memory, memory_size);
#else
  // The memory: block descriptions, ids, segments, logits, then what a tokenization and an
  // inference need in turn.
  const size_t blocks_bytes =
      EMBBERT_ENGINE_ROUND8((size_t)config->blocks * sizeof(embbert_block_t));
  uint8_t* next = memory;
  engine->memory_needed = blocks_bytes;
  if (memory == NULL || (uintptr_t)next % 8 != 0 || memory_size < blocks_bytes) {
    return kEngineMemory;
  }
  embbert_block_t* const blocks = memory;
  next += blocks_bytes;
  for (int32_t i = 0; i < config->blocks; i++) {
    status = open_block(engine, &blocks[i], (uint32_t)i);
    if (status != kEngineOk) return status;
  }
  engine->model.blocks = blocks;
  engine->model.num_blocks = config->blocks;
  const size_t buffer_size = embbert_buffer_size(&engine->model, (int32_t)max_length);
  engine->scratch_size = embbert_scratch_size(&engine->model, (int32_t)max_length);
  engine->memory_needed =
      EMBBERT_ENGINE_MEMORY_BYTES((size_t)config->blocks, (size_t)config->labels, max_length,
                                  buffer_size, engine->scratch_size);
  if (memory_size < engine->memory_needed) return kEngineMemory;
  engine->ids = (uint16_t*)(void*)next;
  next += EMBBERT_ENGINE_ROUND8(2u * max_length);
  engine->segments = next;
  next += EMBBERT_ENGINE_ROUND8(max_length);
  engine->logits = (int8_t*)next;
  next += EMBBERT_ENGINE_ROUND8((size_t)config->labels);
  engine->buffer_a = (int8_t*)next;
  next += EMBBERT_ENGINE_ROUND8(buffer_size);
  engine->buffer_b = (int8_t*)next;
  next += EMBBERT_ENGINE_ROUND8(buffer_size);
  engine->scratch = next;
  return kEngineOk;
#endif
}

int embbert_engine_tokenize(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, const uint16_t** ids,
                            size_t* count) {
  if (engine == NULL || text == NULL || ids == NULL || count == NULL) return kEngineArgument;
  if (pair != NULL && engine->config.pair == 0) return kEngineArgument;
  embbert_tokenizer_scratch_t* const scratch = (void*)engine->buffer_a;
  const int status =
      embbert_tokenizer_encode(&engine->tokenizer, text, length, pair, pair_length, engine->ids,
                               (size_t)engine->model.embed.max_length, count, scratch);
  if (status != EMBBERT_TOKENIZER_OK) return kEngineTokenizerTables;
  *ids = engine->ids;
  return kEngineOk;
}

// Softmax at the largest logit, whose own term is the table's first entry, 65536.
static uint32_t confidence_at(const embbert_engine_t* engine, int32_t label) {
  uint32_t sum = 65536;
  for (int32_t i = 0; i < engine->config.labels; i++) {
    if (i != label) sum += engine->confidence[engine->logits[label] - engine->logits[i]];
  }
  return (10000u * 65536u + sum / 2) / sum;
}

int embbert_engine_infer(embbert_engine_t* engine, const uint16_t* ids, size_t count,
                         embbert_result_t* result) {
  if (engine == NULL || ids == NULL || result == NULL) return kEngineArgument;
  if (count < 1 || count > (size_t)engine->model.embed.max_length) return kEngineTokens;
  uint8_t segment = 1;
  for (size_t i = 0; i < count; i++) {
    if (ids[i] == EMBBERT_TOKENIZER_SEP) segment = 2;
    engine->segments[i] = segment;
  }
#ifdef EMBBERT_OTHER_BACKEND
  const int status = embbert_backend_infer(engine, ids, count);
  if (status != kEngineOk) return status;
#else
  const embbert_status_t status =
      embbert_infer(&engine->model, ids, engine->segments, (int32_t)count, engine->buffer_a,
                    engine->buffer_b, engine->scratch, engine->scratch_size, engine->logits);
  if (status == EMBBERT_ERROR_ID) return kEngineTokens;
  if (status != EMBBERT_OK) return kEngineShapes;
#endif

  memset(result, 0, sizeof(*result));
  result->tokens = (int32_t)count;
  result->logits = engine->logits;
  result->name = engine->labels;
  if (engine->config.task == 1) {
    const int64_t logit = engine->logits[0] - engine->config.logits_zero;
    result->score = (int32_t)(logit * engine->config.score_multiplier / 65536);
    result->sure = true;
    return kEngineOk;
  }
  for (int32_t i = 1; i < engine->config.labels; i++) {
    if (engine->logits[i] > engine->logits[result->label]) result->label = i;
  }
  for (int32_t i = 0; i < result->label; i++) result->name += strlen(result->name) + 1;
  result->confidence = confidence_at(engine, result->label);
  result->sure = (int32_t)result->confidence >= engine->config.threshold;
  return kEngineOk;
}

int embbert_engine_classify(embbert_engine_t* engine, const char* text, size_t length,
                            const char* pair, size_t pair_length, embbert_result_t* result) {
  const uint16_t* ids;
  size_t count;
  const int status = embbert_engine_tokenize(engine, text, length, pair, pair_length, &ids, &count);
  return status == kEngineOk ? embbert_engine_infer(engine, ids, count, result) : status;
}

const char* embbert_engine_message(int status) {
#ifdef EMBBERT_OTHER_BACKEND
  if (status == kEngineMemory || status == kEngineRuntime) return embbert_backend_message(status);
#endif
  switch (status) {
    case kEngineOk:
      return "no error";
    case kEngineImage + kImageTooShort - 1:
      return "the model image is cut short; write it again";
    case kEngineImage + kImageMisplaced - 1:
      return "the model image is not at a multiple of 16; mend the linker script";
    case kEngineImage + kImageMagic - 1:
      return "there is no model image; write one";
    case kEngineImage + kImageVersion - 1:
      return "the model image has another layout version; make it anew with this firmware";
    case kEngineImage + kImageChecksum - 1:
      return "the model image is damaged (checksum); write it again";
    case kEngineImage + kImageTable - 1:
      return "the model image contradicts itself; make it anew";
    case kEngineSection:
      return "the model image lacks a section, or has one of the wrong size; make it anew";
    case kEngineOptions:
      return "the kernels do not accept the model's options; make the image anew";
    case kEngineShapes:
      return "parts of the model image do not fit one another; make it anew";
    case kEngineMemory:
      return "the model needs more memory than it was given; build for this model";
    case kEngineTokenizerTables:
      return "the tokenizer's tables are not valid; make the image anew";
    case kEngineTokens:
      return "no token, too many tokens, or a token outside the vocabulary";
    case kEngineArgument:
      return "a null pointer, or a pair of texts for a model that takes one";
    default:
      return "an unknown error";
  }
}

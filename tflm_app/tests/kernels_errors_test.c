// Every argument error of the kernels gives its status, before anything is written.

#include <stdio.h>
#include <string.h>

#include "embbert_kernels.h"

enum { kHidden = 32, kReduced = 16, kLabels = 2, kVocabulary = 5, kLength = 6 };

static int failures;

#define EXPECT(want, call)                                                                  \
  do {                                                                                      \
    const int got_ = (int)(call);                                                           \
    if (got_ != (int)(want)) {                                                              \
      printf("%s:%d: %s gives %d, not %d\n", __FILE__, __LINE__, #call, got_, (int)(want)); \
      failures++;                                                                           \
    }                                                                                       \
  } while (0)

static int32_t embed_options[8 + kHidden] = {0x31424D45, 8 + kHidden, kVocabulary, kLength,
                                             kReduced,   kHidden,     0,           0};
static int32_t block_options[21 + kHidden + 64] = {
    0x314B4C42, 21 + kHidden + 64, kHidden, 1, 1, 0, 0, 1 << 30, 5, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1,
    0};
static int32_t head_options[6 + kLabels] = {0x31444548, 6 + kLabels, kHidden, kLabels, 0, 0};

static int32_t zeros[1024];  // weights
static int8_t buffer_a[kLength * kHidden] __attribute__((aligned(8)));
static int8_t buffer_b[kLength * kHidden] __attribute__((aligned(8)));
static uint8_t scratch[4096] __attribute__((aligned(8)));

// Each word in turn replaced by a value that is wrong there.
static void test_options(void) {
  embbert_embed_t embed;
  EXPECT(EMBBERT_OK, embbert_embed_init(&embed, embed_options, sizeof(embed_options)));
  static const int32_t bad_embed[8] = {0, 9, 0, EMBBERT_MAX_LENGTH + 1, 6, 24, 31, 128};
  for (int i = 0; i < 8; i++) {
    int32_t copy[8 + kHidden];
    memcpy(copy, embed_options, sizeof(copy));
    copy[i] = bad_embed[i];
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_embed_init(&embed, copy, sizeof(copy)));
  }
  embbert_block_t block;
  EXPECT(EMBBERT_OK, embbert_block_init(&block, block_options, sizeof(block_options)));
  // 0 where every value is good (multipliers).
  static const int32_t bad_block[21] = {1,    1,  0, 9,  65,   128, -1, 5,  25, -1, 0,
                                        -129, 31, 0, -1, 1000, 31,  0,  31, 0,  128};
  for (int i = 0; i < 21; i++) {
    if (i == 10 || i == 13 || i == 17 || i == 19) continue;
    int32_t copy[21 + kHidden + 64];
    memcpy(copy, block_options, sizeof(copy));
    copy[i] = bad_block[i];
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_block_init(&block, copy, sizeof(copy)));
  }
  embbert_head_t head;
  EXPECT(EMBBERT_OK, embbert_head_init(&head, head_options, sizeof(head_options)));
  static const int32_t bad_head[6] = {2, 7, 17, 3, -1, -200};
  for (int i = 0; i < 6; i++) {
    int32_t copy[6 + kLabels];
    memcpy(copy, head_options, sizeof(copy));
    copy[i] = bad_head[i];
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_head_init(&head, copy, sizeof(copy)));
  }
  for (size_t size = 0; size < sizeof(head_options); size++) {
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_head_init(&head, head_options, size));
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_block_init(&block, block_options, size));
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_embed_init(&embed, embed_options, size));
  }
  EXPECT(EMBBERT_ERROR_ARGUMENT, embbert_head_init(&head, NULL, sizeof(head_options)));
  EXPECT(EMBBERT_ERROR_ARGUMENT, embbert_head_init(NULL, head_options, sizeof(head_options)));
  EXPECT(EMBBERT_ERROR_ARGUMENT,
         embbert_head_init(&head, (const uint8_t*)head_options + 1, sizeof(head_options)));
}

// Weights of 4 bits: bits, factors and sizes that are none.
static void test_coded_options(void) {
  embbert_embed_t embed;
  int32_t coded_embed[11 + kHidden] = {
      0x33424D45, 11 + kHidden, kVocabulary, kLength, kReduced, kHidden, 0, 0, 4, 16, 4};
  EXPECT(EMBBERT_OK, embbert_embed_init(&embed, coded_embed, sizeof(coded_embed)));
  EXPECT(4, embed.token_bits);
  EXPECT(16, embed.token_factor);
  EXPECT(4, embed.weight_bits);
  static const int32_t kBad[][3] = {{1, 1, 4},   {5, 1, 4}, {4, 0, 4},  {4, -1, 4},
                                    {4, 128, 4}, {8, 2, 4}, {4, 16, 3}, {4, 16, 16}};
  for (size_t i = 0; i < sizeof(kBad) / sizeof(kBad[0]); i++) {
    memcpy(coded_embed + 8, kBad[i], sizeof(kBad[i]));
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_embed_init(&embed, coded_embed, sizeof(coded_embed)));
  }

  embbert_block_t block;
  int32_t coded_block[21 + kHidden + 64 + 3 * kHidden / 4];
  memcpy(coded_block, block_options, sizeof(block_options));
  coded_block[0] = 0x334B4C42;
  coded_block[1] = (int32_t)(sizeof(coded_block) / 4);
  int8_t* const factors = (int8_t*)(coded_block + 21 + kHidden + 64);
  memset(factors, 18, 3 * kHidden);
  EXPECT(EMBBERT_OK, embbert_block_init(&block, coded_block, sizeof(coded_block)));
  EXPECT(4, block.weight_bits);
  EXPECT(1, block.wz_factors == factors + 2 * kHidden);
  static const int8_t kBadFactors[] = {-1, 0, 19, 127};
  for (int i = 0; i < 3 * kHidden * 4; i++) {
    factors[i / 4] = kBadFactors[i % 4];
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_block_init(&block, coded_block, sizeof(coded_block)));
    factors[i / 4] = 1;
  }
  EXPECT(EMBBERT_OK, embbert_block_init(&block, coded_block, sizeof(coded_block)));
  for (size_t size = 0; size < sizeof(coded_block); size++) {
    EXPECT(EMBBERT_ERROR_OPTIONS, embbert_block_init(&block, coded_block, size));
  }
  coded_block[0] = 0x324B4C42;  // version 2 kept codes in another order
  EXPECT(EMBBERT_ERROR_OPTIONS, embbert_block_init(&block, coded_block, sizeof(coded_block)));
  EXPECT(EMBBERT_OK, embbert_block_init(&block, block_options, sizeof(block_options)));
  EXPECT(8, block.weight_bits);
  EXPECT(1, block.wq_factors == NULL);

  embbert_head_t head;
  int32_t coded_head[6 + kLabels];
  memcpy(coded_head, head_options, sizeof(coded_head));
  coded_head[0] = 0x33444548;
  EXPECT(EMBBERT_OK, embbert_head_init(&head, coded_head, sizeof(coded_head)));
  EXPECT(4, head.weight_bits);
}

static void test_arguments(void) {
  embbert_block_t blocks[2];
  embbert_model_t model = {.blocks = blocks, .num_blocks = 2};
  embbert_embed_init(&model.embed, embed_options, sizeof(embed_options));
  embbert_head_init(&model.head, head_options, sizeof(head_options));
  embbert_block_init(&blocks[0], block_options, sizeof(block_options));
  embbert_block_init(&blocks[1], block_options, sizeof(block_options));
  const int8_t* const weights = (const int8_t*)zeros;
  const uint16_t ids[kLength + 1] = {0, 1, 2, 3, 4, 0, 0};
  const uint8_t segments[kLength + 1] = {1, 1, 2, 2, 2, 2, 2};
  int8_t logits[kLabels];
  const size_t size = sizeof(scratch);
#define INFER(n) \
  embbert_infer(&model, ids, segments, n, buffer_a, buffer_b, scratch, size, logits, NULL)
  EXPECT(EMBBERT_ERROR_ARGUMENT, INFER(1));  // no weights yet
  model.embed.token = model.embed.position = model.embed.weight = weights;
  model.embed.bias = zeros;
  blocks[0].wq = blocks[0].wv = blocks[0].conv = blocks[0].wz = weights;
  blocks[0].bq = blocks[0].conv_bias = blocks[0].bz = zeros;
  model.head.weight = weights;
  model.head.bias = zeros;
  blocks[1] = blocks[0];
  EXPECT(EMBBERT_OK, INFER(1));
  EXPECT(EMBBERT_OK, INFER(kLength));
  EXPECT(EMBBERT_ERROR_LENGTH, INFER(0));
  EXPECT(EMBBERT_ERROR_LENGTH, INFER(-1));
  EXPECT(EMBBERT_ERROR_LENGTH, INFER(kLength + 1));

  memset(buffer_a, 77, sizeof(buffer_a));
  const uint16_t unknown[2] = {1, kVocabulary};
  EXPECT(EMBBERT_ERROR_ID, embbert_embed(&model.embed, unknown, NULL, 2, buffer_a));
  const uint8_t third[2] = {1, 3};
  EXPECT(EMBBERT_ERROR_ID, embbert_embed(&model.embed, ids, third, 2, buffer_a));
  EXPECT(EMBBERT_ERROR_ARGUMENT, embbert_embed(&model.embed, ids, NULL, 2, buffer_a + 4));
  EXPECT(EMBBERT_ERROR_ARGUMENT, embbert_embed(&model.embed, NULL, NULL, 2, buffer_a));
  const size_t need = embbert_block_scratch_size(&blocks[0], 3);
  EXPECT(EMBBERT_ERROR_SCRATCH,
         embbert_block(&blocks[0], buffer_a, 3, 3, buffer_b, scratch, need - 1, NULL));
  EXPECT(EMBBERT_ERROR_LENGTH,
         embbert_block(&blocks[0], buffer_a, 3, 2, buffer_b, scratch, need, NULL));
  EXPECT(EMBBERT_ERROR_LENGTH, embbert_block(&blocks[0], buffer_a, EMBBERT_MAX_LENGTH + 1, 1,
                                             buffer_b, scratch, size, NULL));
  EXPECT(EMBBERT_ERROR_ARGUMENT,
         embbert_block(&blocks[0], buffer_a, 3, 3, buffer_b, scratch + 4, size - 4, NULL));
  for (size_t i = 0; i < sizeof(buffer_a); i++) EXPECT(77, buffer_a[i]);

  model.num_blocks = 0;
  EXPECT(EMBBERT_ERROR_MODEL, INFER(1));
  model.num_blocks = 2;
  blocks[1].hidden = 48;
  EXPECT(EMBBERT_ERROR_MODEL, INFER(1));
  EXPECT(EMBBERT_ERROR_ARGUMENT, embbert_head(&model.head, NULL, logits));
}

int main(void) {
  test_options();
  test_coded_options();
  test_arguments();
  if (failures == 0) printf("kernels_errors_test: ok\n");
  return failures == 0 ? 0 : 1;
}

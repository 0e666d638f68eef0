// tokenizer_encode_cli.c for a board: reads the records of a file over semihosting and writes the
// answers to another. Started as "encode\n<records>\n<answers>"; the tables are linked in.
#include <string.h>

#include "../boards/platform.h"
#include "embbert_tokenizer.h"

enum { kMaxIds = 512, kMaxText = 1 << 16 };

__asm__(
    ".section .rodata\n.balign 4\n.global device_tables\n.global device_tables_end\n"
    "device_tables:\n.incbin \"" TABLES_FILE "\"\ndevice_tables_end:\n.text\n");
extern const uint8_t device_tables[];
extern const uint8_t device_tables_end[];

static embbert_tokenizer_t tokenizer;
static embbert_tokenizer_scratch_t scratch;
static uint16_t ids[kMaxIds];
static char text[kMaxText];
static char pair[kMaxText];

_Noreturn static void fail(const char* why) {
  platform_write(why, strlen(why));
  platform_write("\n", 1);
  platform_exit(1);
}

// Returns 0 at the end of the file.
static int read_exactly(int32_t file, void* data, size_t size) {
  size_t done = 0;
  while (done < size) {
    const int32_t n = platform_read(file, (char*)data + done, size - done);
    if (n < 0 || (n == 0 && done > 0)) fail("encode_device: input ended early");
    if (n == 0) return 0;
    done += (size_t)n;
  }
  return 1;
}

int main(void) {
  char command[1024];
  if (platform_command(command, sizeof(command)) <= 0) fail("encode_device: no command");
  char* const records = strchr(command, '\n');
  char* const answers = records != NULL ? strchr(records + 1, '\n') : NULL;
  if (answers == NULL) fail("encode_device: records and answers are needed");
  *answers = '\0';
  const int32_t in = platform_open_read(records + 1);
  const int32_t out = platform_open_write(answers + 1);
  if (in < 0 || out < 0) fail("encode_device: cannot open the files");
  int32_t status = embbert_tokenizer_init(
      &tokenizer, device_tables, (size_t)((uintptr_t)device_tables_end - (uintptr_t)device_tables));
  if (status != EMBBERT_TOKENIZER_OK) fail(embbert_tokenizer_strerror(status));

  uint32_t header[3];
  while (read_exactly(in, header, sizeof(header))) {
    const int has_pair = header[1] != 0xFFFFFFFFu;
    const uint32_t pair_length = has_pair ? header[1] : 0;
    if (header[0] > kMaxText || pair_length > kMaxText || header[2] > kMaxIds) {
      fail("encode_device: a record is too large");
    }
    if (header[0] > 0) (void)read_exactly(in, text, header[0]);
    if (pair_length > 0) (void)read_exactly(in, pair, pair_length);
    size_t count = 0;
    status = embbert_tokenizer_encode(&tokenizer, text, header[0], has_pair ? pair : NULL,
                                      pair_length, ids, header[2], &count, &scratch);
    const uint32_t n = (uint32_t)count;
    if (platform_write_file(out, &status, 4) != 0 || platform_write_file(out, &n, 4) != 0 ||
        (n > 0 && platform_write_file(out, ids, 2 * n) != 0)) {
      fail("encode_device: cannot write");
    }
  }
  (void)platform_close(out);
  platform_exit(0);
}

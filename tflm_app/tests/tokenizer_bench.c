// What the tokenizer costs on a board: instructions per byte for each line of a file, memory.
//
// Started as "bench\n<file of lines>"; the tables are linked in as `bench_tables`.
#include <string.h>

#include "../boards/platform.h"
#include "embbert_tokenizer.h"

enum { kMaxIds = 512 };

__asm__(
    ".section .rodata\n.balign 4\n.global bench_tables\n.global bench_tables_end\n"
    "bench_tables:\n.incbin \"" TABLES_FILE "\"\nbench_tables_end:\n.text\n");
extern const uint8_t bench_tables[];
extern const uint8_t bench_tables_end[];

static embbert_tokenizer_t tokenizer;
static embbert_tokenizer_scratch_t scratch;
static uint16_t ids[kMaxIds];
static char text[1 << 17];

static void say(const char* line) { platform_write(line, strlen(line)); }

// Right-aligned in `width` columns.
static void say_number(uint32_t value, int width) {
  char digits[12];
  int at = (int)sizeof(digits);
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  for (int i = (int)sizeof(digits) - at; i < width; ++i) say(" ");
  platform_write(digits + at, sizeof(digits) - (size_t)at);
}

static void measure(size_t length) {
  size_t count = 0;
  const uint32_t before = platform_ticks();
  const int status =
      embbert_tokenizer_encode(&tokenizer, text, length, NULL, 0, ids, kMaxIds, &count, &scratch);
  const uint32_t ticks = platform_ticks() - before;
  if (status != EMBBERT_TOKENIZER_OK) {
    say(embbert_tokenizer_strerror(status));
    say("\n");
    return;
  }
  say_number((uint32_t)length, 7);
  say_number((uint32_t)count, 6);
  say_number((uint32_t)platform_ticks_to_cost(ticks), 10);
  say_number((uint32_t)(platform_ticks_to_cost(ticks) / length), 7);
  say("  ");
  platform_write(text, length < 24 ? length : 24);
  say("\n");
}

int main(void) {
  char command[512];
  if (platform_command(command, sizeof(command)) <= 0) platform_exit(1);
  const char* const path = strchr(command, '\n');
  const int32_t file = path != NULL ? platform_open_read(path + 1) : -1;
  if (file < 0) {
    say("bench: no such file\n");
    platform_exit(1);
  }
  const size_t size = (size_t)((uintptr_t)bench_tables_end - (uintptr_t)bench_tables);
  const uint32_t before = platform_ticks();
  const int status = embbert_tokenizer_init(&tokenizer, bench_tables, size);
  const uint32_t ticks = platform_ticks() - before;
  if (status != EMBBERT_TOKENIZER_OK) {
    say(embbert_tokenizer_strerror(status));
    say("\n");
    platform_exit(1);
  }
  say(platform_name());
  say(": tables");
  say_number((uint32_t)size, 6);
  say(" bytes; RAM beside ids and stack: tokenizer");
  say_number(sizeof(tokenizer), 4);
  say(" bytes, scratch");
  say_number(sizeof(scratch), 5);
  say(" bytes; init");
  say_number((uint32_t)platform_ticks_to_cost(ticks), 7);
  say(" instructions\n  bytes   ids    instr. /byte\n");

  size_t length = 0;
  char byte;
  while (platform_read(file, &byte, 1) == 1) {
    if (byte != '\n') {
      if (length < sizeof(text) - 1) text[length++] = byte;
      continue;
    }
    text[length] = '\0';
    if (length > 0) measure(length);
    length = 0;
  }
  platform_exit(0);
}

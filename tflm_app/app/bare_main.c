// Entry on a bare-metal board.

#include "../boards/platform.h"

int app_main(void);

int main(void) { platform_exit(app_main()); }

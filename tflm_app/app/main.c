// Entry on a bare-metal board.

#include "../boards/platform.h"
#include "app.h"

int main(void) { platform_exit(app_main()); }

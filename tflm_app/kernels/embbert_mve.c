#include "embbert_internal.h"

/* needs_newer_host.c: it needs a host of a minor version that is not out yet: refused at stage version. */
#include "sound.h"
static const lb_strategy_table TABLE = {SOUND, .min_host_minor = 99};
ENTRY(&TABLE)

/* needs_newer_host.c: it needs a host with a later minor version. Refused at stage version. */
#include "sound.h"
static const lb_strategy_table TABLE = {SOUND, .min_host_minor = 99};
ENTRY(&TABLE)
